#include "posix_signals.hpp"

#include <array>
#include <cerrno>
#include <new>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

// Some facts about signals
//
// A handler may run on any thread that does not block the signal, between any two instructions,
// several at a time on different threads. It may use lock-free atomics and async-signal-safe calls
// (signal-safety(7)), and has to leave errno alone, as `wake` does. Ours sets a bit and wakes the
// loop; standard signals that arrive while one is pending are merged by the system anyway, so "at
// least once after the last" is all that can be promised.
//
// A loop that stops watching must not be woken afterwards, because its kernel may be gone. The
// handler therefore counts itself in before it looks at a sink and out after its last use of one;
// unwatching clears the sink first and then waits for those that had begun before. In a storm of
// another signal there may be no moment without any handler, so there are two counts: new handlers
// use one while the other drains, and then the other way round. A handler that has read which one
// to use and counts itself in after the turn has not looked at a sink yet, and sees it cleared.
// Both sides need sequential consistency: the handler's "count, then look" must not pass the
// other's "clear, then read the count".
//
// fork(2) copies the registry as it is, and only the forking thread. A lock or a count that another
// thread held would stay for ever, so both are void in a process other than the one that wrote
// them.

namespace weft::detail {

static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
              std::atomic<Kernel*>::is_always_lock_free);

namespace {

constexpr int max_signal = 64; // as many as `Kernel::take_signals` has bits
constexpr std::uint64_t bit_of(int number) noexcept {
    return std::uint64_t(1) << (number - 1);
}

struct Disposition {
    int watchers = 0;
    struct sigaction previous {};
};

} // namespace

/// The state of the process, and the lock for everything in it that no handler reads.
class SignalRegistry {
public:
    SignalRegistry() noexcept {
        const pid_t self = getpid();
        pid_t holder = 0;
        while (!lock_.compare_exchange_weak(holder, self, std::memory_order_acquire)) {
            if (holder != 0 && holder != self) continue; // held when a parent forked: taken over
            holder = 0;
            sched_yield();
        }
        if (process_ != self) {
            process_ = self;
            for (auto& running : handlers_)
                running.store(0);
        }
    }
    ~SignalRegistry() { lock_.store(0, std::memory_order_release); }
    SignalRegistry(const SignalRegistry&) = delete;
    SignalRegistry& operator=(const SignalRegistry&) = delete;

    static inline std::atomic<SignalSink*> sinks_{nullptr};
    static inline std::array<std::atomic<int>, 2> handlers_{}; ///< how many are running now
    static inline std::atomic<unsigned> epoch_{0}; ///< even or odd: in which of them new ones count
    static inline std::array<Disposition, max_signal> dispositions_;

private:
    static inline std::atomic<pid_t> lock_{0}; ///< the process that holds it, 0 if none
    static inline pid_t process_ = 0;
};

void SignalSink::on_signal(int number) noexcept {
    auto& running = SignalRegistry::handlers_[SignalRegistry::epoch_.load() % 2];
    running.fetch_add(1);
    for (SignalSink* sink = SignalRegistry::sinks_.load(); sink; sink = sink->next_) {
        if ((sink->watched_.load() & bit_of(number)) == 0) continue;
        sink->pending_.fetch_or(bit_of(number));
        if (Kernel* kernel = sink->kernel_.load()) kernel->wake();
    }
    running.fetch_sub(1);
}

void SignalSink::wait_for_handlers() noexcept {
    // Handlers take a microsecond and this thread is in none, so both end.
    for (int turn = 0; turn < 2; ++turn) {
        const auto& earlier = SignalRegistry::handlers_[SignalRegistry::epoch_.fetch_add(1) % 2];
        while (earlier.load() > 0)
            sched_yield();
    }
}

SignalSink* SignalSink::acquire(Kernel& kernel) noexcept {
    const SignalRegistry registry;
    SignalSink* sink = registry.sinks_.load();
    while (sink && sink->kernel_.load())
        sink = sink->next_;
    if (sink) {
        sink->pending_.store(0);
        sink->kernel_.store(&kernel);
        return sink;
    }
    sink = new (std::nothrow) SignalSink;
    if (!sink) return nullptr;
    sink->kernel_.store(&kernel);
    sink->next_ = registry.sinks_.load();
    registry.sinks_.store(sink);
    return sink;
}

void SignalSink::release() noexcept {
    const SignalRegistry registry;
    for (int number = 1; number <= max_signal; ++number)
        (void)unwatch_locked(number);
    // With nothing watched no new handler comes to the kernel; those under way are waited for
    // before the sink can belong to somebody else.
    wait_for_handlers();
    kernel_.store(nullptr);
}

Sys SignalSink::watch(int number) noexcept {
    if (number < 1 || number > max_signal) return Sys::fail(EINVAL);
    const SignalRegistry registry;
    if ((watched_.load() & bit_of(number)) != 0) return Sys(0);
    watched_.fetch_or(bit_of(number));
    Disposition& disposition = registry.dispositions_[static_cast<std::size_t>(number - 1)];
    if (disposition.watchers == 0) {
        struct sigaction action {};
        action.sa_handler = &SignalSink::on_signal;
        // Another stack if the thread has one: the handler may interrupt a coroutine on a small
        // one.
        action.sa_flags = SA_RESTART | SA_ONSTACK;
        sigfillset(&action.sa_mask);
        // SIGKILL, SIGSTOP and those that libc keeps for itself: EINVAL.
        if (sigaction(number, &action, &disposition.previous) != 0) {
            const int error = errno;
            watched_.fetch_and(~bit_of(number));
            return Sys::fail(error);
        }
    }
    ++disposition.watchers;
    return Sys(0);
}

Sys SignalSink::unwatch(int number) noexcept {
    if (number < 1 || number > max_signal) return Sys::fail(EINVAL);
    const SignalRegistry registry;
    const Sys result = unwatch_locked(number);
    if (!result.ok()) return result;
    wait_for_handlers();
    pending_.fetch_and(~bit_of(number));
    return result;
}

Sys SignalSink::unwatch_locked(int number) noexcept {
    if ((watched_.load() & bit_of(number)) == 0) return Sys::fail(ENOENT);
    Disposition& disposition = SignalRegistry::dispositions_[static_cast<std::size_t>(number - 1)];
    if (--disposition.watchers == 0) {
        // What somebody else installed over ours is theirs to keep.
        struct sigaction current {};
        const bool ours = sigaction(number, nullptr, &current) == 0 &&
                          current.sa_handler == &SignalSink::on_signal;
        if (ours) sigaction(number, &disposition.previous, nullptr);
    }
    watched_.fetch_and(~bit_of(number));
    return Sys(0);
}

} // namespace weft::detail
