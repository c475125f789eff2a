#include "loop_entered.hpp"

#include <weft/reactor/log.hpp>
#include <weft/reactor/loop_core.hpp>

#include <algorithm>
#include <cstdlib>
#include <cxxabi.h>
#include <sstream>
#include <string>

namespace weft::detail {
namespace {

bool debug_wanted(const std::optional<bool>& option) {
    if (option) return *option;
    const char* value = std::getenv("WEFT_DEBUG");
    return value != nullptr && *value != '\0' && std::string_view(value) != "0";
}

LoopOptions& checked(LoopOptions& options) {
    const auto at_least_1 = [](const char* option, auto value) {
        check_option(value >= 1, option, value, "must be at least 1");
    };
    at_least_1("LoopOptions: receive_buffer", options.receive_buffer);
    at_least_1("LoopOptions: reads_per_turn", options.reads_per_turn);
    at_least_1("LoopOptions: bytes_per_turn", options.bytes_per_turn);
    check_not_negative("LoopOptions: bulk_time_per_turn", options.bulk_time_per_turn);
    at_least_1("LoopOptions: accepts_per_turn", options.accepts_per_turn);
    at_least_1("LoopOptions: turns_per_poll", options.turns_per_poll);
    check_not_negative("LoopOptions: slow_callback", options.slow_callback);
    return options;
}

} // namespace

LoopCore::LoopCore(Loop& loop, LoopOptions options)
    : kernel_(checked(options).kernel ? std::move(options.kernel) : make_default_kernel()),
      events_(events_per_wait), mailbox_(std::make_shared<Mailbox>(loop, *kernel_)),
      receive_buffer_(options.receive_buffer, *blocks_), debug_(debug_wanted(options.debug)),
      options_(std::move(options)), loop_(loop) {
    if (!options_.resolver) options_.resolver = make_kernel_resolver();
}

void LoopCore::end() {
    if (in_turn_ || running_) {
        // Its own frames are on the stack below: going on would run them on freed memory.
        log(LogLevel::error, "a loop was destroyed inside one of its own callbacks");
        std::abort();
    }
    close();
}

// --- Sources and front-ends ---

void LoopCore::again(Token token, std::uint32_t ready) {
    again_.push_back({token, ready});
    work_queued_ = true;
    if (!in_turn_) outside_change();
}

void LoopCore::finish_later(Source& source) {
    closing_.add(source);
    work_queued_ = true;
    if (!in_turn_) outside_change();
}

void LoopCore::flush_later(Source& source) {
    flushing_.add(source);
    work_queued_ = true;
    if (!in_turn_) outside_change();
}

void LoopCore::add_front_end(std::unique_ptr<FrontEnd> front_end) {
    for (const auto& other : front_ends_)
        if (other->kind_ == front_end->kind_)
            throw UsageError("add_front_end: the loop has a front-end of this kind");
    front_ends_.push_back(std::move(front_end));
}

bool LoopCore::front_end_alive() const noexcept {
    return std::any_of(front_ends_.begin(), front_ends_.end(),
                       [](const auto& front_end) { return front_end->alive(); });
}

Result<void> LoopCore::rebuild_kernel() {
    rebuild_wanted_ = false;
    stale_turns_ = 0;
    host_.armed = host_.announced = TimePoint::max();
    const bool child = !kernel_->owns(-1); // of a fork that this loop has not been told of
    if (const Sys reset = kernel_->reset(); !reset.ok())
        return Error{reset.code(), "start the kernel over"};
    Result<void> result;
    sources_.for_each([&](Source& source, Token token) {
        const auto [fd, interest] = source.registration();
        if (fd < 0) return;
        const bool inherited = child || !kernel_->owns(fd);
        const Sys added = kernel_->add(fd, token, interest);
        // One that is gone must not cost the others theirs.
        if (!added.ok() && result.ok())
            result = Error{added.code(), "register descriptor " + std::to_string(fd) + " again"};
        if (inherited) kernel_->inherited(fd);
    });
    if (host_.embedded && !running_) hand_to_host();
    return result;
}

Result<void> LoopCore::after_fork() {
    if (state_ != State::open) throw UsageError("after_fork: the loop is closed");
    if (in_turn_) throw UsageError("after_fork: called inside a callback");
    jobs_.after_fork(); // the threads that ran them are the parent's
    mailbox_->after_fork();
    return rebuild_kernel();
}

Loop::Stats LoopCore::stats() const noexcept {
    return {sources_.size(), timers_.size(),
            signals_.size(), calls_.size() + posted_.size() - posted_next_,
            jobs_.size(),    turns_,
            stale_events_};
}

// --- Running ---

std::size_t LoopCore::make_turn(TimePoint wait_until) {
    now_ = kernel_->now(); // the first turn may do without a look at the kernel
    struct InTurn {
        bool& flag;
        explicit InTurn(bool& f) : flag(f) { flag = true; }
        ~InTurn() { flag = false; }
    } in_turn(in_turn_);
    const std::size_t before = allowance_.left;
    turn(wait_until);
    return before - allowance_.left;
}

void LoopCore::run_turns(bool until_idle) {
    const Entered entered(*this, until_idle ? "run_until_idle" : "run");
    now_ = kernel_->now(); // the first turn may do without a look at the kernel
    in_turn_ = true;
    // SIZE_MAX callbacks are more than a process lives to see; the allowance is renewed all the
    // same.
    do {
        if (until_idle && idle()) break;
        allowance_.left = SIZE_MAX;
        turn(stopping_ ? TimePoint::min() : TimePoint::max());
    } while (!stopping_);
}

std::size_t LoopCore::run_once(bool wait) {
    const Entered entered(*this, "run_once");
    return make_turn(wait ? TimePoint::max() : TimePoint::min());
}

void LoopCore::run_until_done(FutureStateBase& state) {
    check_usable("run_until");
    if (state.loop() != &loop_) throw UsageError("run_until: the future belongs to another loop");
    if (state.done()) return;
    // The callback may be queued already when something else ends the run; it must not stop the
    // next one.
    const auto waiting = std::make_shared<bool>(true);
    const CallbackId id = state.add_callback(
        [this, waiting](FutureStateBase&) {
            if (*waiting) stop();
        },
        {});
    struct Removed {
        FutureStateBase& state;
        CallbackId id;
        bool& waiting;
        ~Removed() {
            waiting = false;
            state.remove_callback(id);
        }
    } removed{state, id, *waiting};
    run_turns(false);
    if (!state.done())
        throw std::system_error(Errc::aborted, "run_until: stopped before the future was done");
}

bool LoopCore::could_call_back() const noexcept {
    return sources_.size() != 0 || timers_.size() != 0 || signals_.awaited() || jobs_.size() != 0 ||
           ready_now() || leftovers() || !mailbox_->empty() || front_end_alive();
}

bool LoopCore::idle() const noexcept {
    return sources_.size() == 0 && timers_.size() == 0 && signals_.size() == 0 &&
           jobs_.size() == 0 && !ready_now() && !leftovers() && mailbox_->empty();
}

// --- Time and callbacks ---

Timer LoopCore::call_every(Duration interval, Function<void()>&& function,
                           std::source_location location) {
    if (interval < Duration::zero()) throw UsageError("call_every: the interval is negative");
    Timer timer = call_at(deadline_in(interval), std::move(function), location);
    timer.record_->interval = interval;
    return timer;
}

void LoopCore::begin_future(ListNode& state) {
    if (state_ == State::closed) throw UsageError("a promise: the loop is closed");
    pending_futures_.push_back(state);
}

// --- What goes wrong ---

void LoopCore::check_duration(TimePoint start, std::string_view what,
                              std::source_location scheduled) const {
    if (scheduled.line() == 0) return; // the loop's own; what it calls is looked at by itself
    const Duration took = kernel_->now() - start;
    if (took <= options_.slow_callback) return;
    log(LogLevel::warning,
        std::string(what) + " took " +
            std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
            " ms" + scheduled_at(scheduled));
}

void LoopCore::report_exception(std::string_view message, std::source_location scheduled) {
    try {
        throw;
    } catch (const FatalError&) {
        if (state_ == State::open) throw;
        // closing is not `run`, and goes on to its end
        report({message, std::current_exception(), scheduled});
    } catch (abi::__forced_unwind&) { // pthread_cancel: must not be stopped
        throw;
    } catch (...) {
        report({message, std::current_exception(), scheduled});
    }
}

void LoopCore::check_usable(std::string_view what) const {
    if (state_ == State::closed) throw UsageError(std::string(what) + ": the loop is closed");
    if (!debug_) return;
    const auto owner = mailbox_->owner();
    if (owner == std::thread::id() || owner == std::this_thread::get_id()) return;
    std::ostringstream text;
    text << what << ": called on thread " << std::this_thread::get_id()
         << ", but the loop belongs to thread " << owner << "; use post()";
    throw UsageError(text.str());
}

} // namespace weft::detail
