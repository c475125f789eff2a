#include "posix_kernel.hpp"

#include "posix_signals.hpp"
#include "system.hpp"
#include "system_calls.hpp"
#include "without_sigpipe.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <limits.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#if __has_include(<sys/random.h>)
#include <sys/random.h> // getentropy, which others have in unistd.h
#endif
#include <sys/stat.h>
#include <sys/uio.h>

namespace weft::detail {
namespace {

// MSG_DONTWAIT beside O_NONBLOCK: another process that shares an adopted descriptor may clear the
// latter.
#ifdef MSG_NOSIGNAL
constexpr int send_flags = MSG_NOSIGNAL | MSG_DONTWAIT;
#else
constexpr int send_flags = MSG_DONTWAIT; // `make_socket` and its like see to SIGPIPE there
#endif

#ifdef IOV_MAX
constexpr std::size_t max_pieces = IOV_MAX;
#else
constexpr std::size_t max_pieces = 1024; // UIO_MAXIOV of Linux, writev(2)
#endif

template<class Call>
Sys with_address(Address& address, Call call) noexcept {
    socklen_t size = Address::capacity;
    const Sys result = uninterrupted([&] { return call(address.data(), &size); });
    address.set_size(result.ok() ? size : 0);
    return result;
}

/// What a socket says of itself, -1 if it is none.
int number_of(int fd, int name) noexcept {
    int number = 0;
    socklen_t size = sizeof number;
    return ::getsockopt(fd, SOL_SOCKET, name, &number, &size) == 0 ? number : -1;
}

FileKind kind_of_mode(mode_t mode) noexcept {
    if (S_ISREG(mode)) return FileKind::regular;
    if (S_ISDIR(mode)) return FileKind::directory;
    if (S_ISCHR(mode)) return FileKind::character;
    if (S_ISFIFO(mode)) return FileKind::pipe;
    return FileKind::other;
}

} // namespace

OwnedFd::~OwnedFd() {
    if (fd_ >= 0) ::close(fd_);
}

ForkWitness::ForkWitness() {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        throw std::system_error(errno_code(errno), "kernel: mmap of one page");
    const bool cleared = wipe_on_fork(memory, page);
    if (!cleared) owner_ = getpid();
    mark_ = ::new (memory) std::atomic<unsigned char>(cleared ? this_process : ask);
}

ForkWitness::~ForkWitness() {
    munmap(mark_, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
}

void ForkWitness::renew() noexcept {
    if (owner_ != 0) owner_ = getpid();
    mark_->store(owner_ != 0 ? ask : this_process, std::memory_order_relaxed);
}

bool ForkWitness::is_other_process() const noexcept {
    return owner_ != getpid();
}

timespec time_left(TimePoint deadline, TimePoint now) noexcept {
    timespec left{};
    if (deadline <= now) return left;
    // A deadline after a start that may lie before zero: the difference can exceed the range.
    const auto wait = static_cast<std::uint64_t>(deadline.time_since_epoch().count()) -
                      static_cast<std::uint64_t>(now.time_since_epoch().count());
    left.tv_sec = static_cast<time_t>(wait / 1'000'000'000);
    left.tv_nsec = static_cast<long>(wait % 1'000'000'000);
    return left;
}

PosixKernel::PosixKernel() = default;

PosixKernel::~PosixKernel() {
    stop_signals();
}

TimePoint PosixKernel::now() noexcept {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return TimePoint(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
}

void PosixKernel::random(MutableBytes out) noexcept {
    while (!out.empty()) {
        const auto part = std::min<std::size_t>(out.size(), 256); // getentropy(3)'s limit
        if (getentropy(out.data(), part) != 0) {
            // Going on with guessable numbers would be worse than to end.
            std::perror("weft: getentropy");
            std::abort();
        }
        out = out.subspan(part);
    }
}

void PosixKernel::inherited(int fd) {
    const auto place = static_cast<std::size_t>(fd);
    if (place >= inherited_.size()) inherited_.resize(place + 1);
    inherited_[place] = true;
}

bool PosixKernel::owns(int fd) noexcept {
    const auto place = static_cast<std::size_t>(fd);
    return !witness_.forked() && !(place < inherited_.size() && inherited_[place]);
}

Sys PosixKernel::watch_signal(int number) noexcept {
    if (!signals_) signals_ = SignalSink::acquire(*this);
    return signals_ ? signals_->watch(number) : Sys::fail(ENOMEM);
}

Sys PosixKernel::unwatch_signal(int number) noexcept {
    return signals_ ? signals_->unwatch(number) : Sys::fail(ENOENT);
}

std::uint64_t PosixKernel::take_signals() noexcept {
    return signals_ ? signals_->take() : 0;
}

void PosixKernel::stop_signals() noexcept {
    if (signals_) signals_->release();
    signals_ = nullptr;
}

// What is not a count is looked at out of line: interrupted calls are made again, and descriptors
// that are no sockets are read and written as files are.
[[gnu::noinline, gnu::cold]] static Sys recv_again(int fd, void* data, std::size_t size,
                                                   Sys got) noexcept {
    while (got.error() == EINTR)
        got = direct_recv(fd, data, size, MSG_DONTWAIT);
    if (got.error() != ENOTSOCK) return got;
    return uninterrupted([&] { return ::read(fd, data, size); });
}

Sys PosixKernel::recv(int fd, void* data, std::size_t size) noexcept {
    const Sys got = direct_recv(fd, data, size, MSG_DONTWAIT);
    if (got.ok()) [[likely]]
        return got;
    return recv_again(fd, data, size, got);
}

[[gnu::noinline, gnu::cold]] static Sys send_again(int fd, const void* data, std::size_t size,
                                                   Sys sent) noexcept {
    while (sent.error() == EINTR)
        sent = direct_send(fd, data, size, send_flags);
    if (sent.error() != ENOTSOCK) return sent;
    return without_sigpipe([&] { return ::write(fd, data, size); });
}

[[gnu::noinline, gnu::cold]] static Sys send_unsure(const ForkWitness& witness, int fd,
                                                    const void* data, std::size_t size) noexcept {
    if (witness.forked()) return Sys::fail(EOWNERDEAD);
    const Sys sent = direct_send(fd, data, size, send_flags);
    return sent.ok() ? sent : send_again(fd, data, size, sent);
}

Sys PosixKernel::send(int fd, const void* data, std::size_t size) noexcept {
    if (!witness_.certain()) [[unlikely]]
        return send_unsure(witness_, fd, data, size);
    const Sys sent = direct_send(fd, data, size, send_flags);
    if (sent.ok()) [[likely]]
        return sent;
    return send_again(fd, data, size, sent);
}

Sys PosixKernel::sendv(int fd, const iovec* pieces, std::size_t count) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    // Were the first IOV_MAX pieces all empty, nothing would be sent and the caller could not tell
    // why.
    for (; count > 0 && pieces->iov_len == 0; --count)
        ++pieces;
    msghdr message{};
    message.msg_iov = const_cast<iovec*>(pieces);
    message.msg_iovlen = std::min(count, max_pieces);
    const Sys sent = uninterrupted([&] { return ::sendmsg(fd, &message, send_flags); });
    if (sent.error() != ENOTSOCK) [[likely]]
        return sent;
    return without_sigpipe(
        [&] { return ::writev(fd, pieces, static_cast<int>(message.msg_iovlen)); });
}

Sys PosixKernel::send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    return system_send_file(fd, file, offset, size);
}

Sys PosixKernel::shutdown_write(int fd) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    return from_libc(::shutdown(fd, SHUT_WR));
}

void PosixKernel::close(int fd, bool reset) noexcept {
    if (reset && owns(fd)) {
        // A linger time of zero makes close(2) send RST and drop what is queued (socket(7)). The
        // option is the socket's, and so everybody's who has a copy of the descriptor.
        const linger now{1, 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    not_inherited(fd);
    // After EINTR the descriptor is gone on Linux, and may be somebody else's by the time of a
    // retry.
    ::close(fd);
}

Sys PosixKernel::socket(int family, int type, int protocol) noexcept {
    return above_standard(make_socket(family, type, protocol));
}

Sys PosixKernel::socketpair(int type, int (&fds)[2]) noexcept {
    int made[2];
    if (const Sys pair = make_socket_pair(type, made); !pair.ok()) return pair;
    OwnedFd second(made[1]);
    OwnedFd first(above_standard(made[0]));
    if (!first) return Sys::fail(errno);
    if (second = OwnedFd(above_standard(second.release())); !second) return Sys::fail(errno);
    fds[0] = first.release();
    fds[1] = second.release();
    return Sys(0);
}

Sys PosixKernel::bind(int fd, const Address& address) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    return from_libc(::bind(fd, address.data(), address.size()));
}

Sys PosixKernel::listen(int fd, int backlog) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    return from_libc(::listen(fd, backlog));
}

Sys PosixKernel::accept(int fd, Address& peer) noexcept {
    return with_address(peer, [fd](sockaddr* address, socklen_t* size) {
        return above_standard(accept_connection(fd, address, size));
    });
}

Sys PosixKernel::connect(int fd, const Address& address) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    Sys result = from_libc(::connect(fd, address.data(), address.size()));
    if (result.error() != EINTR) [[likely]]
        return result;
    // The attempt goes on by itself (connect(2)); asking again tells how far it is.
    result = uninterrupted([&] { return ::connect(fd, address.data(), address.size()); });
    if (result.error() == EALREADY) return Sys::fail(EINPROGRESS);
    return result.error() == EISCONN ? Sys(0) : result;
}

Sys PosixKernel::local_address(int fd, Address& address) noexcept {
    return with_address(
        address, [fd](sockaddr* to, socklen_t* size) { return ::getsockname(fd, to, size); });
}

Sys PosixKernel::peer_address(int fd, Address& address) noexcept {
    return with_address(
        address, [fd](sockaddr* to, socklen_t* size) { return ::getpeername(fd, to, size); });
}

Sys PosixKernel::peer_credentials(int fd, Credentials& credentials) noexcept {
    return system_peer_credentials(fd, credentials);
}

bool PosixKernel::alone() noexcept {
    return only_thread();
}

FileKind PosixKernel::kind_of(int fd) noexcept {
    struct stat info;
    if (::fstat(fd, &info) != 0) return FileKind::none;
    if (!S_ISSOCK(info.st_mode)) return kind_of_mode(info.st_mode);
    const int type = number_of(fd, SO_TYPE);
    if (type == SOCK_STREAM) return FileKind::stream_socket;
    return type == SOCK_DGRAM ? FileKind::datagram_socket : FileKind::other;
}

bool PosixKernel::is_listening(int fd) noexcept {
    return number_of(fd, SO_ACCEPTCONN) > 0;
}

Sys PosixKernel::set_nonblocking(int fd) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    const int status = ::fcntl(fd, F_GETFL);
    if (status < 0 || ::fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0) return Sys::fail(errno);
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0) return Sys::fail(errno);
    suppress_sigpipe(fd);
    return from_libc(::fcntl(fd, F_SETFD, flags | FD_CLOEXEC));
}

Sys PosixKernel::open_reserve() noexcept {
    return uninterrupted([] { return above_standard(::open("/dev/null", O_RDONLY | O_CLOEXEC)); });
}

FileInfo PosixKernel::look_at(const std::string& path) noexcept {
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0) return {};
    return {kind_of_mode(info.st_mode), S_ISSOCK(info.st_mode), info.st_dev, info.st_ino};
}

Sys PosixKernel::unlink(const std::string& path) noexcept {
    if (witness_.forked()) [[unlikely]]
        return Sys::fail(EOWNERDEAD);
    return from_libc(::unlink(path.c_str()));
}

Sys PosixKernel::access_mode(int fd) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    return flags < 0 ? Sys::fail(errno) : Sys(flags & O_ACCMODE);
}

std::string PosixKernel::absolute(const std::string& path) {
    if (path.starts_with('/')) return path;
    std::error_code error; // the folder was removed: then nothing is in it either
    const auto folder = std::filesystem::current_path(error);
    return error ? path : (folder / path).string();
}

Sys PosixKernel::lock_folder(const std::string& path) noexcept {
    const auto slash = path.rfind('/');
    char folder[Address::capacity] = ".";
    if (slash != path.npos) {
        if (slash >= sizeof folder) return Sys::fail(ENAMETOOLONG);
        folder[path.copy(folder, std::max<std::size_t>(slash, 1))] = '\0';
    }
    OwnedFd lock(::open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock) return Sys::fail(errno);
    constexpr timespec moment{0, 1'000'000};
    for (int left = 200; ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0; --left) {
        if (errno != EWOULDBLOCK && errno != EINTR) return Sys::fail(errno);
        if (left == 0) return Sys::fail(EWOULDBLOCK);
        nanosleep(&moment, nullptr);
    }
    return Sys(lock.release());
}

} // namespace weft::detail
