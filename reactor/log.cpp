#include <weft/reactor/log.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <memory>
#include <poll.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/pattern_formatter.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// What the default sink must not do
//
// - Block. It runs on a loop's thread, standard error may be a pipe that nobody reads, and
//   O_NONBLOCK cannot be set on it, since the open file is shared with other processes. So each
//   write asks for itself not to wait.
// - Hold a lock, which a thread of the parent may hold when it forks.
// - Depend on an object with a destructor: loops of static storage, and threads, log while the
//   process ends. So it does without spdlog's registry and loggers, and has each message's
//   formatter to itself.
// - End the process by SIGPIPE.

namespace weft {
namespace {

constexpr int standard_error = 2;

/// While it lives SIGPIPE does not reach this thread.
class NoBrokenPipe {
public:
    NoBrokenPipe() noexcept {
        sigset_t pending;
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGPIPE) == 1;
        sigemptyset(&broken_pipe_);
        sigaddset(&broken_pipe_, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &broken_pipe_, &before_);
    }
    ~NoBrokenPipe() {
        const timespec at_once{};
        if (!was_pending_)
            while (sigtimedwait(&broken_pipe_, nullptr, &at_once) < 0 && errno == EINTR) {
            }
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    NoBrokenPipe(const NoBrokenPipe&) = delete;
    NoBrokenPipe& operator=(const NoBrokenPipe&) = delete;

private:
    sigset_t broken_pipe_;
    sigset_t before_;
    bool was_pending_;
};

/// A write that asks for itself not to wait; -1 and EAGAIN if it would have to.
ssize_t write_without_waiting(std::string_view text, mode_t kind) noexcept {
    if (S_ISREG(kind)) return write(standard_error, text.data(), text.size());
    if (S_ISSOCK(kind))
        return send(standard_error, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
#ifdef RWF_NOWAIT
    const iovec piece{const_cast<char*>(text.data()), text.size()};
    const ssize_t done = pwritev2(standard_error, &piece, 1, -1, RWF_NOWAIT);
    if (done >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)) return done;
#endif
    // An open file of our own of the same pipe or terminal.
    const int own = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own >= 0) {
        const ssize_t written = write(own, text.data(), text.size());
        const int error = errno;
        ::close(own);
        errno = error;
        return written;
    }
    // A pipe that says it has room takes PIPE_BUF bytes.
    pollfd room{standard_error, POLLOUT, 0};
    if (poll(&room, 1, 0) > 0 && (room.revents & POLLOUT) != 0)
        return write(standard_error, text.data(), std::min<std::size_t>(text.size(), 4096));
    errno = EAGAIN;
    return -1;
}

std::atomic<std::uint64_t> lost{0};
std::atomic<bool> cut{false}; // the last line has no end

/// All of `text`, or what there is room for. Whether any of it was written.
bool write_all(std::string_view text) noexcept {
    struct stat file {};
    if (fstat(standard_error, &file) != 0) return false;
    // A process that was started without standard error may have anything there by now.
    if (!S_ISREG(file.st_mode) && !S_ISSOCK(file.st_mode) && !S_ISFIFO(file.st_mode) &&
        !S_ISCHR(file.st_mode))
        return false;
    const NoBrokenPipe no_signal;
    bool any = false;
    while (!text.empty()) {
        const ssize_t done = write_without_waiting(text, file.st_mode);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) break;
        any = true;
        text.remove_prefix(static_cast<std::size_t>(done));
    }
    if (any && !text.empty()) cut.store(true);
    return any;
}

void append_line(spdlog::memory_buf_t& to, LogLevel level, std::string_view text) {
    static constexpr spdlog::level::level_enum levels[] = {
        spdlog::level::debug, spdlog::level::info, spdlog::level::warn, spdlog::level::err};
    const std::string message = "weft: " + std::string(text);
    spdlog::pattern_formatter formatter("[%Y-%m-%d %H:%M:%S.%e] [%l] %v");
    formatter.format(spdlog::details::log_msg({}, levels[static_cast<int>(level)], message), to);
}

void to_standard_error(LogLevel level, std::string_view text) noexcept {
    if (level < LogLevel::info) return;
    const int error = errno;
    const std::uint64_t missing = lost.exchange(0);
    try {
        spdlog::memory_buf_t line;
        if (cut.exchange(false)) line.push_back('\n');
        if (missing != 0)
            append_line(line, LogLevel::warning,
                        std::to_string(missing) +
                            " messages are missing here: nobody took what was written");
        append_line(line, level, text);
        if (!write_all({line.data(), line.size()})) lost.fetch_add(missing + 1);
    } catch (...) { // no memory
        lost.fetch_add(missing + 1);
    }
    errno = error;
}

std::atomic<LogSink> current_sink{&to_standard_error};

} // namespace

LogSink set_log_sink(LogSink sink) noexcept {
    return current_sink.exchange(sink);
}

void log(LogLevel level, std::string_view text) noexcept {
    if (LogSink sink = current_sink.load()) sink(level, text);
}

bool LogLimit::admits(LogLevel level, TimePoint now) noexcept {
    if (!begun_ || now < since_ || now - since_ >= std::chrono::seconds(1)) {
        tell();
        begun_ = true;
        since_ = now;
        passed_ = 0;
    }
    if (passed_ < per_second_) {
        ++passed_;
        return true;
    }
    ++suppressed_;
    level_ = std::max(level_, level);
    return false;
}

void LogLimit::tell() noexcept {
    if (suppressed_ == 0) return;
    try {
        log(level_, std::to_string(suppressed_) + " more like the last of these were suppressed");
    } catch (...) { // no memory for the text
    }
    suppressed_ = 0;
    level_ = LogLevel::debug;
}

} // namespace weft
