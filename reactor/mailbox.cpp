// Why a lock and a list: a flood of posts costs what moves between the processors, and that is
// least when messages lie side by side and change hands all at once. A queue without a lock (an
// exchange per push) took 64 to 103 ns per post where this takes a fraction of it: a node from one
// thread's heap that is freed by another, and a cache line per message that is fetched when it is
// its turn. The lock is held for a few nanoseconds, and by the loop once per turn in which there is
// mail.

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/mailbox.hpp>

#include <new>
#include <thread>
#include <unistd.h>
#include <utility>

namespace weft::detail {
namespace {

// What a burst has left is given back: lists of more messages than this are not kept.
constexpr std::size_t most_kept = 16 * 1024;

} // namespace

Mailbox::Mailbox(Loop& loop, Kernel& kernel) : loop_(&loop), kernel_(&kernel), process_(getpid()) {}

std::error_code Mailbox::add(Function<void()>&& function, std::source_location location,
                             State latest) {
    bool wake = false;
    {
        const std::lock_guard lock(mutex_);
        if (state_.load(std::memory_order_relaxed) > latest) return Errc::closed;
        inbox_.push_back({std::move(function), location});
        // The first since the loop last took what there was looks after its sleep. As in Dekker's
        // algorithm one of the two sees what the other has stored.
        if (!filled_.load(std::memory_order_relaxed)) {
            filled_.store(true, std::memory_order_seq_cst);
            wake = sleeping_.load(std::memory_order_seq_cst);
            if (wake) wakers_.fetch_add(1, std::memory_order_relaxed);
        }
    }
    if (wake) {
        kernel_->wake();
        wakers_.fetch_sub(1, std::memory_order_release);
    }
    return {};
}

std::error_code Mailbox::give_back(Function<void()>&& function, std::source_location location) {
    const auto error = add(std::move(function), location, State::closing);
    given_back_.fetch_add(1, std::memory_order_release);
    given_back_.notify_all();
    return error;
}

void Mailbox::take(std::vector<Posted>& into) noexcept {
    if (into.capacity() > most_kept) into = std::vector<Posted>();
    const std::lock_guard lock(mutex_);
    into.swap(inbox_);
    filled_.store(false, std::memory_order_relaxed);
}

bool Mailbox::prepare_to_sleep() noexcept {
    sleeping_.store(true, std::memory_order_seq_cst);
    if (!filled_.load(std::memory_order_seq_cst)) return true;
    sleeping_.store(false, std::memory_order_relaxed);
    return false;
}

void Mailbox::begin_closing() noexcept {
    if (process_ != getpid()) after_fork();
    const std::lock_guard lock(mutex_);
    state_.store(State::closing, std::memory_order_release);
}

void Mailbox::close() noexcept {
    if (process_ != getpid()) after_fork();
    loop_.store(nullptr, std::memory_order_relaxed);
    std::vector<Posted> left;
    {
        const std::lock_guard lock(mutex_);
        state_.store(State::closed, std::memory_order_release);
        left.swap(inbox_);
        filled_.store(false, std::memory_order_relaxed);
    }
    // A waker holds on for one system call at most.
    while (wakers_.load(std::memory_order_acquire) != 0)
        std::this_thread::yield();
    // Without the lock, `left` goes: what captures do at their end may come back here.
}

void Mailbox::after_fork() noexcept {
    process_ = getpid();
    wakers_.store(0, std::memory_order_relaxed);
    if (mutex_.try_lock()) return mutex_.unlock();
    // Its holder is not in this process, and may have been half way through: what it held stays as
    // it is, for good.
    ::new (&mutex_) std::mutex;
    ::new (&inbox_) std::vector<Posted>;
    filled_.store(false, std::memory_order_relaxed);
}

} // namespace weft::detail
