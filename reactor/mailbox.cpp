// Some facts about this queue. It is Vyukov's intrusive queue of many producers and one consumer: a producer
// exchanges the tail, then links its predecessor to itself. Between the two the chain has a gap, and the
// consumer sees less than there is; the producer that closes the gap looks at `sleeping_` afterwards, so
// nothing is forgotten. The flag works as in Dekker's algorithm: the loop stores `sleeping_` and then looks at
// the queue's tail, a producer exchanges the tail and then looks at `sleeping_`, all sequentially consistent, so at
// least one of them sees the other; a loop that sees the tail but not yet the link to it goes round once more. Whoever turns the flag off makes the one wake-up of that sleep.
//
// Closing works the same way with `closed_` in place of `sleeping_`: a producer that was under way when the loop closed
// either is seen by the loop's last look at the queue, or sees `closed_` after its push and empties the queue itself. A
// message left behind would keep alive what it captured, which may well be what keeps this queue alive.

#include <weft/reactor/kernel.hpp>
#include <weft/reactor/mailbox.hpp>

#include <thread>

namespace weft::detail {

Mailbox::Mailbox(Loop& loop, Kernel& kernel)
    : loop_(&loop), kernel_(&kernel), head_(new CallNode) {
    tail_.store(head_, std::memory_order_relaxed);
}

Mailbox::~Mailbox() {
    while (CallNode* node = pop()) delete node;
    delete head_;
}

std::error_code Mailbox::post(Function<void()> function, std::source_location location) {
    if (closed_.load(std::memory_order_acquire)) return Errc::closed;
    auto* node = new CallNode;
    node->function = std::move(function);
    node->location = location;
    push(node);
    wake_if_sleeping();
    if (closed_.load(std::memory_order_seq_cst)) [[unlikely]]
        drain_closed();
    return {};
}

void Mailbox::push(CallNode* node) noexcept {
    CallNode* before = tail_.exchange(node, std::memory_order_seq_cst);
    before->next.store(node, std::memory_order_release);
}

void Mailbox::wake_if_sleeping() noexcept {
    if (!sleeping_.load(std::memory_order_seq_cst)) return;
    if (!sleeping_.exchange(false, std::memory_order_seq_cst)) return;
    wakers_.fetch_add(1, std::memory_order_seq_cst);
    if (!closed_.load(std::memory_order_seq_cst)) kernel_->wake();
    wakers_.fetch_sub(1, std::memory_order_release);
}

CallNode* Mailbox::pop() noexcept {
    CallNode* next = head_->next.load(std::memory_order_acquire);
    if (next == nullptr) return nullptr;
    // The old head goes; the message moves into the caller's hands with the node that carried it as new head.
    // So what is returned is the consumed head, refilled with the message.
    CallNode* free = head_;
    head_ = next;
    free->function = std::move(next->function);
    free->location = next->location;
    free->next.store(nullptr, std::memory_order_relaxed);
    return free;
}

bool Mailbox::prepare_to_sleep() noexcept {
    sleeping_.store(true, std::memory_order_seq_cst);
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (maybe_empty()) return true;
    sleeping_.store(false, std::memory_order_relaxed);
    return false;
}

void Mailbox::close() noexcept {
    closed_.store(true, std::memory_order_seq_cst);
    loop_.store(nullptr, std::memory_order_relaxed);
    // A waker holds on for one system call at most.
    while (wakers_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    drain_closed();
}

void Mailbox::drain_closed() noexcept {
    for (;;) {
        CallNode* node;
        {
            const std::lock_guard lock(draining_);
            node = pop();
        }
        if (node == nullptr) return;
        delete node; // without the lock: what the captures do at their end may come back here
    }
}

} // namespace weft::detail
