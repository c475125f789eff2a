#include <weft/reactor/future.hpp>
#include <weft/reactor/log.hpp>
#include <weft/reactor/loop_core.hpp>

namespace weft::detail {

void throw_no_state(const char* what) {
    throw UsageError(std::string(what) +
                     ": the future is empty (default-constructed or moved from)");
}

std::error_code error_code_of(const std::exception_ptr& error) noexcept {
    if (!error) return {};
    try {
        std::rethrow_exception(error);
    } catch (const std::system_error& e) {
        return e.code();
    } catch (const Cancelled&) {
        return std::make_error_code(std::errc::operation_canceled);
    } catch (...) {
        return Errc::invalid_state;
    }
}

namespace {

bool is_cancellation(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const Cancelled&) {
        return true;
    } catch (...) {
        return false;
    }
}

} // namespace

void check_awaitable(const FutureStateBase& waiting, const FutureStateBase* inner) {
    if (inner == nullptr) throw UsageError("then: the function returned an empty future");
    if (inner == &waiting) throw UsageError("then: a future can not wait for itself");
    if (inner->loop() != waiting.loop())
        throw UsageError("then: the function returned a future of another loop");
}

namespace {

/// An error on its way to the loop's handler. If the loop ends before it gets there, it is logged.
class LostError {
public:
    LostError(Mailbox* mailbox, std::exception_ptr error) noexcept
        : mailbox_(mailbox), error_(std::move(error)) {}
    LostError(LostError&& other) noexcept
        : mailbox_(other.mailbox_), error_(std::exchange(other.error_, nullptr)) {}
    LostError& operator=(LostError&&) = delete;
    ~LostError() {
        if (error_)
            log(LogLevel::error, "a future's error was never retrieved, and its loop is closed: " +
                                     error_code_of(error_).message());
    }
    void operator()() {
        const auto error = std::exchange(error_, nullptr);
        if (Loop* loop = mailbox_->loop())
            core_of(*loop).report({"a future's error was never retrieved", error, {}});
    }

private:
    Mailbox* mailbox_; // which is what calls this
    std::exception_ptr error_;
};

} // namespace

FutureStateBase::FutureStateBase(Loop& loop) : mailbox_(core_of(loop).mailbox()) {
    core_of(loop).begin_future(static_cast<ListNode&>(*this));
}

FutureStateBase::~FutureStateBase() {
    if (linked()) unlink();
    if (status_ != Status::failed || retrieved_ || !error_) return;
    // Nobody waits and nobody promises: nothing is lost.
    if (const auto code = error_code_of(error_);
        code == Errc::broken_promise || code == Errc::aborted)
        return;
    // The last reference may go on any thread, so the report travels by post.
    (void)mailbox_->post(LostError(mailbox_.get(), std::move(error_)), {});
}

void FutureStateBase::check_thread(const char* what) const {
    if (Loop* loop = mailbox_->loop(); loop != nullptr && loop->debug())
        core_of(*loop).check_usable(what);
}

CallbackId FutureStateBase::add_callback(Function<void(FutureStateBase&)> function,
                                         std::optional<CallbackId> id,
                                         std::source_location location) {
    check_thread("add_done_callback");
    const CallbackId key = id.value_or(CallbackId{next_id_});
    if (!id) ++next_id_;
    if (done() && mailbox_->loop() == nullptr) return key;
    callbacks_.push_back({key, std::move(function), location});
    if (done()) schedule(1);
    return key;
}

std::size_t FutureStateBase::remove_callback(CallbackId id) {
    if (done()) return 0;
    // The captures are destroyed after the vector is whole again: they may come back here.
    std::vector<Callback> removed;
    for (std::size_t i = 0; i < callbacks_.size();) {
        if (callbacks_[i].id == id) {
            removed.push_back(std::move(callbacks_[i]));
            callbacks_.erase(callbacks_.begin() + static_cast<std::ptrdiff_t>(i));
        } else {
            ++i;
        }
    }
    return removed.size();
}

/// The queued call that runs callbacks. If the loop ends before, they end with it.
class FutureStateBase::Runner {
public:
    Runner(FutureStateBase& state, std::size_t count) noexcept : state_(&state), count_(count) {}
    Runner(Runner&&) noexcept = default;
    Runner& operator=(Runner&&) = delete;
    ~Runner() {
        if (state_) state_->drop_callbacks();
    }
    void operator()() {
        const auto state = std::move(state_);
        state->run_callbacks(count_);
    }

private:
    StateRef<FutureStateBase> state_;
    std::size_t count_;
};

void FutureStateBase::drop_callbacks() noexcept {
    next_callback_ = 0;
    const auto captures = std::exchange(callbacks_, {});
}

// One queued call runs `count` callbacks. A callback added later has a call of its own, so that all
// keep their place among everything else that is queued.
void FutureStateBase::schedule(std::size_t count) {
    Runner runner(*this, count);
    if (Loop* loop = mailbox_->loop()) loop->call_soon(std::move(runner), {});
}

void FutureStateBase::run_callbacks(std::size_t count) {
    struct Rest { // what a FatalError leaves for later
        FutureStateBase& state;
        std::size_t count;
        ~Rest() {
            if (count != 0) {
                state.schedule(count);
            } else if (state.next_callback_ == state.callbacks_.size()) {
                state.callbacks_.clear();
                state.next_callback_ = 0;
            }
        }
    } rest{*this, count};
    while (rest.count != 0) {
        --rest.count;
        // Moved out: what it adds may move the vector.
        Callback callback = std::move(callbacks_[next_callback_++]);
        core_of(*mailbox_->loop())
            .call_guarded([&] { callback.function(*this); }, "a future's done callback",
                          callback.location);
    }
}

void FutureStateBase::complete(Status status) {
    check_thread("setting a future's outcome");
    // the hook's or a callback's captures may hold the last reference
    StateRef<FutureStateBase> keep(this);
    status_ = status;
    unlink();
    const auto hook = std::move(cancel_hook_);
    const auto source = std::move(cancels_);
    tell_waiters();
    if (!callbacks_.empty()) schedule(callbacks_.size());
}

void FutureStateBase::tell_waiters() noexcept {
    while (waiters_.linked()) {
        auto& waiter = static_cast<Waiter&>(*waiters_.next);
        waiter.unlink();
        waiter.on_done();
    }
}

void FutureStateBase::fail(std::exception_ptr error) {
    check_thread("setting a future's outcome");
    if (is_cancellation(error)) return complete(Status::cancelled);
    error_ = std::move(error);
    complete(Status::failed);
}

void FutureStateBase::break_promise() noexcept {
    if (done()) return;
    Loop* loop = mailbox_->loop();
    if (loop == nullptr || loop->closing()) return abandon();
    try {
        fail(std::make_exception_ptr(std::system_error(Errc::broken_promise)));
    } catch (const std::exception& error) {
        log(LogLevel::error, std::string("a promise was destroyed: ") + error.what());
    }
}

void FutureStateBase::abandon() noexcept {
    unlink();
    status_ = Status::failed;
    error_ = std::make_exception_ptr(std::system_error(Errc::aborted, "the loop was closed"));
    retrieved_ = true;
    retain();
    dispose(*this);
}

// What a state refers to may be the last to refer to others, and its callbacks and waiters may hold
// promises of others and so on: a chain ends link by link. A few of them inside each other keep the
// order that one expects; those further down wait in this list for their turn, which is when the
// calls above them have returned. One per thread, as the last reference may go on any.
struct FutureStateBase::Disposal {
    static constexpr int deepest = 8;
    int depth;
    FutureStateBase* first;
    FutureStateBase* last;
    static constinit thread_local Disposal here;
};
constinit thread_local FutureStateBase::Disposal FutureStateBase::Disposal::here{};

void FutureStateBase::dispose(FutureStateBase& state) noexcept {
    Disposal& here = Disposal::here;
    if (here.depth == Disposal::deepest) {
        (here.first != nullptr ? here.last->next_disposed_ : here.first) = &state;
        here.last = &state;
        return;
    }
    ++here.depth;
    state.dispose_now();
    while (FutureStateBase* next = here.first) {
        here.first = std::exchange(next->next_disposed_, nullptr);
        next->dispose_now();
    }
    --here.depth;
}

// Nobody refers to it any more, or it was abandoned, and this is the reference that `abandon` has
// taken.
void FutureStateBase::dispose_now() noexcept {
    if (references_.load(std::memory_order_acquire) != 0) {
        tell_waiters();
        {
            const auto callbacks = std::exchange(callbacks_, {});
            const auto hook = std::move(cancel_hook_);
            const auto source = std::move(cancels_);
        }
        if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    }
    delete this;
}

void FutureStateBase::abandon_all(ListNode& pending) noexcept {
    while (pending.linked())
        static_cast<FutureStateBase*>(pending.next)->abandon();
}

bool FutureStateBase::cancel() {
    if (done()) return false;
    check_thread("cancel");
    for (StateRef<FutureStateBase> state(this); state && !state->done();) {
        auto hook = std::move(state->cancel_hook_);
        auto source = std::move(state->cancels_);
        state->complete(Status::cancelled);
        if (hook) hook();
        state = std::move(source);
    }
    return true;
}

void FutureStateBase::check_value() {
    switch (status_) {
    case Status::value:
        return;
    case Status::failed:
        std::rethrow_exception(error());
    case Status::cancelled:
        throw Cancelled();
    case Status::pending:
        throw UsageError("result: the future is still pending");
    }
}

void FutureStateBase::check_pending(const char* what) const {
    if (done()) throw UsageError(std::string(what) + ": the promise already has an outcome");
}

} // namespace weft::detail
