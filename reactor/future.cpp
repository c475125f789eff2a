#include <weft/reactor/future.hpp>
#include <weft/reactor/log.hpp>
#include <weft/reactor/loop.hpp>

namespace weft::detail {

void throw_no_state(const char* what) {
    throw UsageError(std::string(what) + ": the future is empty (default-constructed or moved from)");
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

FutureStateBase::FutureStateBase(Loop& loop) : mailbox_(loop.remote()) {}

FutureStateBase::~FutureStateBase() {
    if (status_ != Status::failed || retrieved_ || !error_) return;
    // The last reference may go on any thread, so the report travels by post.
    auto error = std::move(error_);
    const auto code = error_code_of(error);
    if (code == Errc::broken_promise || code == Errc::aborted) return; // nobody waits and nobody promises: nothing is lost
    auto report = [mailbox = mailbox_.get(), error]() {
        if (Loop* loop = mailbox->loop())
            loop->report({"a future's error was never retrieved", error, Loop::no_location()});
    };
    if (mailbox_->post(std::move(report), Loop::no_location()))
        log(LogLevel::error, "a future's error was never retrieved, and its loop is closed: " + code.message());
}

CallbackId FutureStateBase::add_callback(Function<void(FutureStateBase&)> function,
                                         std::optional<CallbackId> id) {
    const CallbackId key = id.value_or(CallbackId{next_id_});
    if (!id) ++next_id_;
    if (done()) {
        schedule(std::move(function));
    } else {
        callbacks_.push_back({key, std::move(function)});
    }
    return key;
}

std::size_t FutureStateBase::remove_callback(CallbackId id) {
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

void FutureStateBase::schedule(Function<void(FutureStateBase&)> function) {
    Loop* loop = mailbox_->loop();
    if (loop == nullptr) return;
    loop->call_soon([self = StateRef<FutureStateBase>(this), function = std::move(function)]() mutable {
        function(*self);
    });
}

void FutureStateBase::complete(Status status) {
    StateRef<FutureStateBase> keep(this); // the hook's or a callback's captures may hold the last reference
    status_ = status;
    auto callbacks = std::move(callbacks_);
    callbacks_.clear();
    auto hook = std::move(cancel_hook_);
    for (auto& callback : callbacks) schedule(std::move(callback.function));
}

void FutureStateBase::fail(std::exception_ptr error) {
    error_ = std::move(error);
    complete(Status::failed);
}

void FutureStateBase::abandon() {
    Loop* loop = mailbox_->loop();
    const bool ending = loop == nullptr || loop->closing();
    fail(std::make_exception_ptr(std::system_error(ending ? Errc::aborted : Errc::broken_promise)));
}

bool FutureStateBase::cancel() {
    if (done()) return false;
    StateRef<FutureStateBase> keep(this);
    auto hook = std::move(cancel_hook_);
    complete(Status::cancelled);
    if (hook) hook();
    return true;
}

void FutureStateBase::check_value() {
    switch (status_) {
    case Status::value: return;
    case Status::failed: std::rethrow_exception(error());
    case Status::cancelled: throw Cancelled();
    case Status::pending: throw UsageError("result: the future is still pending");
    }
}

void FutureStateBase::check_pending(const char* what) const {
    if (done()) throw UsageError(std::string(what) + ": the promise already has an outcome");
}

} // namespace weft::detail
