#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::coro::detail {

// Where the items of queues and channels wait: `push`, `pop` and `size`. None gives memory back
// before it goes, so that after a while none asks for any.

/// First in, first out.
template<class T>
class FifoStore {
public:
    FifoStore() noexcept = default;
    ~FifoStore() {
        for (; size_ != 0; --size_)
            std::destroy_at(place(begin_++));
        if (capacity_ != 0) std::allocator<T>().deallocate(items_, capacity_);
    }
    FifoStore(const FifoStore&) = delete;
    FifoStore& operator=(const FifoStore&) = delete;

    std::size_t size() const noexcept { return size_; }
    void push(T&& item) {
        if (size_ == capacity_) grow();
        std::construct_at(place(begin_ + size_), std::move(item));
        ++size_;
    }
    void pop(std::optional<T>& into) noexcept {
        T* first = place(begin_);
        into.emplace(std::move(*first));
        std::destroy_at(first);
        ++begin_;
        --size_;
    }

private:
    T* place(std::size_t index) const noexcept { return items_ + (index & (capacity_ - 1)); }
    void grow() {
        const std::size_t capacity = capacity_ != 0 ? capacity_ * 2 : 8;
        T* items = std::allocator<T>().allocate(capacity);
        for (std::size_t i = 0; i < size_; ++i) {
            T* old = place(begin_ + i);
            std::construct_at(items + i, std::move(*old));
            std::destroy_at(old);
        }
        if (capacity_ != 0) std::allocator<T>().deallocate(items_, capacity_);
        items_ = items;
        capacity_ = capacity;
        begin_ = 0;
    }

    T* items_ = nullptr;
    std::size_t capacity_ = 0; // a power of two
    std::size_t begin_ = 0;    // counts up for ever
    std::size_t size_ = 0;
};

/// Last in, first out.
template<class T>
class LifoStore {
public:
    std::size_t size() const noexcept { return items_.size(); }
    void push(T&& item) { items_.push_back(std::move(item)); }
    void pop(std::optional<T>& into) noexcept {
        into.emplace(std::move(items_.back()));
        items_.pop_back();
    }

private:
    std::vector<T> items_;
};

struct Less {
    template<class T>
    bool operator()(const T& a, const T& b) const {
        return a < b;
    }
};

/// The smallest first, and equals in the order in which they came.
template<class T, class Compare>
class PriorityStore {
public:
    std::size_t size() const noexcept { return items_.size(); }
    void push(T&& item) {
        items_.push_back({std::move(item), number_++});
        std::push_heap(items_.begin(), items_.end(), later);
    }
    void pop(std::optional<T>& into) {
        std::pop_heap(items_.begin(), items_.end(), later);
        into.emplace(std::move(items_.back().item));
        items_.pop_back();
    }

private:
    struct Numbered {
        T item;
        std::uint64_t number;
    };
    static bool later(const Numbered& a, const Numbered& b) {
        if (Compare()(b.item, a.item)) return true;
        if (Compare()(a.item, b.item)) return false;
        return b.number < a.number;
    }
    std::vector<Numbered> items_;
    std::uint64_t number_ = 0;
};

} // namespace weft::coro::detail

#pragma GCC visibility pop
