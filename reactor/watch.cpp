#include <weft/reactor/loop.hpp>
#include <weft/reactor/watch.hpp>

#include "watch_impl.hpp"

#include <cstring>
#include <string>

namespace weft {
namespace detail {

WatchedFd::WatchedFd(Loop& loop, int fd) : loop_(&loop), fd_(fd) { token_ = loop.add_source(*this); }

Sys WatchedFd::start() noexcept { return loop_->kernel().add(fd_, token_, Interest::none); }

void WatchedFd::end() noexcept {
    if (loop_ == nullptr) return;
    // The descriptor is somebody else's and may have duplicates: closing it would not end the registration.
    if (!out_) (void)loop_->kernel().remove(fd_);
    loop_->remove_source(token_);
    loop_ = nullptr;
    auto reader = std::move(reader_);
    auto writer = std::move(writer_);
}

void WatchedFd::dispose() noexcept {
    end();
    if (busy_) {
        orphan_ = true;
    } else {
        delete this;
    }
}

void WatchedFd::set(Interest direction, Function<void()> function) {
    if (loop_ == nullptr) return;
    Callback old = std::move(slot(direction)); // goes at the end: its captures may do anything
    slot(direction) = function ? std::make_shared<Function<void()>>(std::move(function)) : nullptr;
    if (!busy_) apply();
}

void WatchedFd::apply() noexcept {
    const Interest wanted =
        (reader_ ? Interest::read : Interest::none) | (writer_ ? Interest::write : Interest::none);
    if (out_ && wanted != Interest::none) {
        out_ = !loop_->kernel().add(fd_, token_, wanted).ok();
    } else if (!out_ && wanted != registered_) {
        (void)loop_->kernel().modify(fd_, token_, wanted);
    }
    registered_ = wanted;
}

bool WatchedFd::call(Interest direction) {
    Callback callback = slot(direction);
    loop_->watched_call(*callback, "a watched descriptor's callback", Loop::no_location());
    return loop_ != nullptr;
}

void WatchedFd::on_ready(std::uint32_t ready) {
    constexpr auto broken = ready::error | ready::hangup;
    struct Busy {
        WatchedFd* self;
        explicit Busy(WatchedFd* watched) noexcept : self(watched) { self->busy_ = true; }
        ~Busy() {
            self->busy_ = false;
            if (self->orphan_) delete self;
        }
    } busy(this);
    if (reader_ && (ready & (ready::readable | ready::read_hangup | broken)) && !call(Interest::read)) return;
    if (writer_ && (ready & (ready::writable | broken)) && !call(Interest::write)) return;
    apply();
    if ((ready & broken) && registered_ == Interest::none && !out_) {
        // Errors and hang-ups are reported whether asked for or not, over and over. Nobody wants these, so the
        // descriptor leaves the kernel's set until somebody does.
        (void)loop_->kernel().remove(fd_);
        out_ = true;
    }
}

WatchedSignal::WatchedSignal(Loop& loop, int number, Function<void()> function)
    : loop_(&loop), number_(number), function_(std::move(function)) {
    loop.signals_.push_back(*this);
    ++loop.signal_count_;
    ++loop.signal_uses_[number];
}

void WatchedSignal::deliver() {
    busy_ = true;
    struct Ended {
        WatchedSignal* self;
        ~Ended() {
            self->busy_ = false;
            if (self->orphan_) delete self;
        }
    } ended{this};
    loop_->watched_call(function_, "a signal's callback", Loop::no_location());
}

void WatchedSignal::end() noexcept {
    if (loop_ == nullptr) return;
    unlink();
    --loop_->signal_count_;
    if (--loop_->signal_uses_[number_] == 0) (void)loop_->kernel().unwatch_signal(number_);
    loop_ = nullptr;
}

void WatchedSignal::dispose() noexcept {
    end();
    if (busy_) {
        orphan_ = true;
    } else {
        delete this;
    }
}

void WatchDeleter::operator()(WatchedFd* watched) const noexcept { watched->dispose(); }
void WatchDeleter::operator()(WatchedSignal* watched) const noexcept { watched->dispose(); }

} // namespace detail

void Watch::on_readable(Function<void()> function) {
    if (watched_) watched_->set(Interest::read, std::move(function));
}

void Watch::on_writable(Function<void()> function) {
    if (watched_) watched_->set(Interest::write, std::move(function));
}

bool Watch::stop_reading() {
    if (!watched_ || !watched_->has(Interest::read)) return false;
    watched_->set(Interest::read, nullptr);
    return true;
}

bool Watch::stop_writing() {
    if (!watched_ || !watched_->has(Interest::write)) return false;
    watched_->set(Interest::write, nullptr);
    return true;
}

int Watch::fd() const noexcept { return watched_ ? watched_->fd() : -1; }

Result<Watch> Loop::watch(int fd) {
    check_usable("watch");
    Watch watch(new detail::WatchedFd(*this, fd));
    if (const Sys added = watch.watched_->start(); !added.ok()) {
        const bool file = added.error() == EPERM;
        return Error{file ? make_error_code(Errc::not_an_event_fd) : added.code(),
                     "watch descriptor " + std::to_string(fd)};
    }
    return watch;
}

Result<SignalWatch> Loop::on_signal(int number, Function<void()> function) {
    check_usable("on_signal");
    if (number < 1 || number > 64)
        return Error{errno_code(EINVAL), "watch signal " + std::to_string(number)};
    if (signal_uses_[number] == 0) {
        if (const Sys done = kernel_->watch_signal(number); !done.ok())
            return Error{done.code(), "watch signal " + std::to_string(number)};
    }
    return SignalWatch(new detail::WatchedSignal(*this, number, std::move(function)));
}

void Loop::deliver_signals() {
    const std::uint64_t seen = kernel_->take_signals();
    const auto each = [this](auto&& visit) {
        for (auto* node = signals_.next; node != &signals_; node = node->next)
            if (visit(static_cast<detail::WatchedSignal&>(*node))) return true;
        return false;
    };
    each([seen](detail::WatchedSignal& watched) {
        if ((seen >> (watched.number() - 1)) & 1) watched.due = true;
        return false;
    });
    // A callback may end any of these watches or add new ones, so the walk starts over after each.
    while (each([](detail::WatchedSignal& watched) {
        if (!watched.due) return false;
        watched.due = false;
        watched.deliver();
        return true;
    })) {
    }
}

} // namespace weft
