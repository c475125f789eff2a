#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace weft::sim {

/// First in, first out, in one piece of memory and without any when it was never used: std::deque
/// takes half a kilobyte for being empty, and there may be 10^5 connections with four queues each.
template<class T>
class Fifo {
public:
    bool empty() const noexcept { return head_ == items_.size(); }
    std::size_t size() const noexcept { return items_.size() - head_; }
    T& front() noexcept { return items_[head_]; }
    void push(T item) { items_.push_back(std::move(item)); }
    T pop() {
        T item = std::move(items_[head_++]);
        // Moving what is left only when it is the smaller half keeps the cost per item constant.
        if (head_ * 2 >= items_.size()) {
            items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(head_));
            head_ = 0;
        }
        return item;
    }
    void clear() noexcept {
        items_.clear();
        head_ = 0;
    }

private:
    std::vector<T> items_;
    std::size_t head_ = 0;
};

} // namespace weft::sim
