#pragma once

#include <weft/reactor/function.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {
namespace detail {

/// A callback that `call_soon` has queued. Nodes come from the queue's free list and keep their
/// memory, so that a stale `Handle` is recognised by its sequence number.
struct CallNode {
    CallNode* next = nullptr;
    Function<void()> function;
    std::uint64_t sequence = 0; // 0: in the free list
    std::source_location location;
};

class CallQueue;

} // namespace detail

/// Names one queued callback. A weak handle: copy and drop it at will, while the loop lives.
class Handle {
public:
    Handle() = default;
    /// The callback will not run, and its captures are destroyed now. False: it already ran, runs,
    /// or was cancelled.
    bool cancel() noexcept;
    /// Whether it still waits to be run.
    bool pending() const noexcept;

private:
    friend class detail::CallQueue;
    Handle(detail::CallNode* node, std::uint64_t sequence) : node_(node), sequence_(sequence) {}
    detail::CallNode* node_ = nullptr;
    std::uint64_t sequence_ = 0;
};

namespace detail {

/// The callbacks of `call_soon`: those of this turn's batch, and those that were queued since and
/// are for the next one.
class CallQueue {
public:
    CallQueue() = default;
    CallQueue(const CallQueue&) = delete;
    CallQueue& operator=(const CallQueue&) = delete;
    ~CallQueue();

    Handle add(Function<void()>&& function, std::source_location location) {
        CallNode* node = free_ != nullptr ? std::exchange(free_, free_->next) : new CallNode;
        node->next = nullptr;
        node->function = std::move(function);
        node->location = location;
        const Handle handle(node, node->sequence = ++sequence_);
        coming_.push(node);
        return handle;
    }
    /// Whether something waits for the next turn.
    bool queued() const noexcept { return coming_.head != nullptr; }
    /// What was queued so far is this turn's, behind what an earlier one has left.
    void begin_turn() noexcept { batch_.append(coming_); }
    /// Whether something of this turn's is left.
    bool pending() const noexcept { return batch_.head != nullptr; }

    struct Call {
        Function<void()> function; ///< empty if it was cancelled
        std::source_location location;
    };
    /// Takes the first of this turn's; only if one is `pending`.
    Call take() noexcept {
        CallNode* node = batch_.pop();
        Call call{std::move(node->function), node->location};
        node->sequence = 0;
        node->next = free_;
        free_ = node;
        return call;
    }
    std::size_t size() const noexcept { return coming_.size + batch_.size; }

private:
    struct List {
        CallNode* head = nullptr;
        CallNode* tail = nullptr;
        std::size_t size = 0;
        void push(CallNode* node) noexcept {
            (tail != nullptr ? tail->next : head) = node;
            tail = node;
            ++size;
        }
        CallNode* pop() noexcept {
            CallNode* node = head;
            head = std::exchange(node->next, nullptr);
            if (head == nullptr) tail = nullptr;
            --size;
            return node;
        }
        void append(List& other) noexcept {
            if (other.head == nullptr) return;
            (tail != nullptr ? tail->next : head) = other.head;
            tail = other.tail;
            size += other.size;
            other = {};
        }
    };

    List coming_;
    List batch_;
    CallNode* free_ = nullptr;
    std::uint64_t sequence_ = 0;
};

} // namespace detail
} // namespace weft

#pragma GCC visibility pop
