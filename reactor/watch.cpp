#include "watch_impl.hpp"

#include <weft/reactor/log.hpp>
#include <weft/reactor/watch.hpp>

#include <cstring>
#include <string>

namespace weft {
namespace detail {

namespace {

constexpr std::uint32_t broken = ready::error | ready::hangup;

void report_leak(const LoopCore& loop, const std::string& what, const std::source_location& made) {
    if (!loop.debug()) return;
    log(LogLevel::warning, what + " made at " + made.file_name() + ":" +
                               std::to_string(made.line()) +
                               " was still active when its loop was closed");
}

} // namespace

WatchedFd::WatchedFd(LoopCore& loop, int fd, std::source_location location)
    : loop_(&loop), fd_(fd), location_(location) {
    token_ = loop.sources().add(*this);
}

void WatchedFd::on_loop_closing() {
    if (loop_ == nullptr) return;
    report_leak(*loop_, "a Watch of descriptor " + std::to_string(fd_), location_);
    end();
}

Sys WatchedFd::start() noexcept {
    const Sys added = loop_->kernel().add(fd_, token_, Interest::none);
    out_ = !added.ok();
    return added;
}

void WatchedFd::end() noexcept {
    if (loop_ == nullptr) return;
    // The descriptor is somebody else's and may have duplicates: closing it would not end the
    // registration.
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
    if (!busy_) apply(0);
}

void WatchedFd::apply(std::uint32_t ready) noexcept {
    const Interest wanted =
        (reader_ ? Interest::read : Interest::none) | (writer_ ? Interest::write : Interest::none);
    Sys done(0);
    if (out_ && wanted != Interest::none) {
        done = loop_->kernel().add(fd_, token_, wanted);
        out_ = !done.ok();
    } else if (!out_ && wanted != registered_) {
        done = loop_->kernel().modify(fd_, token_, wanted);
    }
    if (done.ok()) registered_ = wanted;
    if ((ready & broken) != 0 && wanted == Interest::none && !out_) {
        // Errors and hang-ups are reported whether asked for or not, over and over. Nobody wants
        // these, so the descriptor leaves the kernel's set until somebody does.
        (void)loop_->kernel().remove(fd_);
        out_ = true;
    }
    if (done.ok()) return;
    // Nobody waits for an answer here. Most likely the descriptor was closed before its watch.
    const std::string what = "watch descriptor " + std::to_string(fd_);
    loop_->report({what, std::make_exception_ptr(std::system_error(done.code(), what)), location_});
}

bool WatchedFd::call(Interest direction) {
    Callback callback = slot(direction);
    loop_->call_guarded(*callback, "a watched descriptor's callback", location_);
    return loop_ != nullptr;
}

void WatchedFd::on_ready(std::uint32_t ready) {
    struct Busy {
        WatchedFd* self;
        std::uint32_t ready;
        Busy(WatchedFd* watched, std::uint32_t bits) noexcept : self(watched), ready(bits) {
            self->busy_ = true;
        }
        ~Busy() {
            // what the callbacks set, also when a FatalError leaves them
            if (self->loop_ != nullptr) self->apply(ready);
            self->busy_ = false;
            if (self->orphan_) delete self;
        }
    } busy(this, ready);
    if (reader_ && (ready & (ready::readable | ready::read_hangup | broken)) &&
        !call(Interest::read))
        return;
    if (writer_ && (ready & (ready::writable | broken))) (void)call(Interest::write);
}

WatchedSignal::WatchedSignal(LoopCore& loop, int number, Function<void()> function,
                             std::source_location location)
    : loop_(&loop), number_(number), location_(location), function_(std::move(function)) {
    loop.signals().add(*this);
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
    loop_->call_guarded(function_, "a signal's callback", location_);
}

void WatchedSignal::on_loop_closing() noexcept {
    report_leak(*loop_, "a SignalWatch of signal " + std::to_string(number_), location_);
    end();
    const auto captures = std::move(function_);
}

void WatchedSignal::end() noexcept {
    if (loop_ == nullptr) return;
    loop_->signals().remove(*this);
    if (loop_->signals().watching(number_) == 0) (void)loop_->kernel().unwatch_signal(number_);
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

void SignalWatches::add(WatchedSignal& watched) noexcept {
    watches_.push_back(watched);
    ++size_;
    ++uses_[static_cast<std::size_t>(watched.number())];
}

void SignalWatches::remove(WatchedSignal& watched) noexcept {
    watched.unlink();
    --size_;
    --uses_[static_cast<std::size_t>(watched.number())];
}

void SignalWatches::note(std::uint64_t seen) noexcept {
    if (seen == 0) return;
    for (auto* node = watches_.next; node != &watches_; node = node->next) {
        auto& watched = static_cast<WatchedSignal&>(*node);
        if ((seen >> (watched.number() - 1)) & 1) watched.due = due_ = true;
    }
}

// A callback may end any of the watches or add new ones, so the walk starts over after each.
WatchedSignal* SignalWatches::next_due() noexcept {
    for (auto* node = watches_.next; node != &watches_; node = node->next) {
        auto& watched = static_cast<WatchedSignal&>(*node);
        if (watched.due) return &watched;
    }
    return nullptr;
}

void SignalWatches::deliver(WatchedSignal& watched) {
    watched.due = false;
    watched.deliver();
}

void SignalWatches::close() noexcept {
    while (watches_.linked())
        static_cast<WatchedSignal*>(watches_.next)->on_loop_closing();
    due_ = false;
}

void WatchDeleter::operator()(WatchedFd* watched) const noexcept {
    watched->dispose();
}
void WatchDeleter::operator()(WatchedSignal* watched) const noexcept {
    watched->dispose();
}

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

int Watch::fd() const noexcept {
    return watched_ ? watched_->fd() : -1;
}

Result<Watch> detail::LoopCore::watch(int fd, std::source_location location) {
    check_usable("watch");
    Watch watch(new WatchedFd(*this, fd, location));
    if (const Sys added = watch.watched_->start(); !added.ok()) {
        const bool file = added.error() == EPERM;
        return Error{file ? make_error_code(Errc::not_an_event_fd) : added.code(),
                     "watch descriptor " + std::to_string(fd)};
    }
    return watch;
}

Result<SignalWatch> detail::LoopCore::on_signal(int number, Function<void()> function,
                                                std::source_location location) {
    check_usable("on_signal");
    if (number < 1 || number > 64)
        return Error{errno_code(EINVAL), "watch signal " + std::to_string(number)};
    if (signals_.watching(number) == 0) {
        if (const Sys done = kernel_->watch_signal(number); !done.ok())
            return Error{done.code(), "watch signal " + std::to_string(number)};
    }
    return SignalWatch(new WatchedSignal(*this, number, std::move(function), location));
}

} // namespace weft
