#include <weft/reactor/sim/faulty_kernel.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <sys/uio.h>

namespace weft::sim {
namespace {

constexpr std::string_view names[] = {
    "now",
    "random",
    "add",
    "modify",
    "remove",
    "wait",
    "wake",
    "pollable_fd",
    "arm",
    "reset",
    "outside_work",
    "watch_signal",
    "unwatch_signal",
    "take_signals",
    "recv",
    "send",
    "sendv",
    "send_file",
    "shutdown_write",
    "close",
    "socket",
    "socketpair",
    "bind",
    "listen",
    "accept",
    "connect",
    "local_address",
    "peer_address",
    "set_option",
    "get_option",
    "peer_credentials",
    "recv_batch",
    "send_batch",
    "recv_error",
    "kind_of",
    "is_listening",
    "set_nonblocking",
    "open_reserve",
    "look_at",
    "unlink",
    "read_file",
    "resolve",
};
static_assert(std::size(names) == call_count);

bool can_fail(Call call) noexcept {
    switch (call) {
    case Call::now:
    case Call::random:
    case Call::wake:
    case Call::outside_work:
    case Call::take_signals:
    case Call::close:
    case Call::kind_of:
    case Call::is_listening:
    case Call::look_at:
        return false;
    default:
        return true;
    }
}

bool has_limit(Call call) noexcept {
    return call == Call::recv || call == Call::send || call == Call::sendv ||
           call == Call::recv_batch || call == Call::send_batch;
}

[[noreturn]] void refuse(Call call, const char* why) {
    throw std::invalid_argument("FaultyKernel: " + std::string(name_of(call)) + ": " + why);
}

} // namespace

std::string_view name_of(Call call) noexcept {
    return names[static_cast<std::size_t>(call)];
}

FaultyKernel::FaultyKernel(std::unique_ptr<Kernel> inner) noexcept : inner_(std::move(inner)) {}
FaultyKernel::~FaultyKernel() = default;

void FaultyKernel::fail(Call call, int error_number, std::uint64_t nth, std::uint64_t times) {
    if (!can_fail(call)) refuse(call, "this call reports no errors");
    if (error_number <= 0) refuse(call, "an errno value is positive");
    if (nth == 0) refuse(call, "calls are counted from 1");
    Plan& planned = plan(call);
    planned.times = 0;
    planned.error = error_number;
    planned.before = nth - 1;
    planned.times = times;
}

void FaultyKernel::limit(Call call, std::size_t most) {
    if (!has_limit(call)) refuse(call, "this call moves nothing that could be limited");
    if (most == 0) refuse(call, "a limit of 0 would look like the end of the stream");
    plan(call).most = most;
}

void FaultyKernel::clear() noexcept {
    for (Plan& planned : plans_) {
        planned.times = 0;
        planned.most = SIZE_MAX;
    }
}

std::uint64_t FaultyKernel::calls(Call call) const noexcept {
    return plan(call).calls;
}
std::uint64_t FaultyKernel::failures(Call call) const noexcept {
    return plan(call).failures;
}

void FaultyKernel::reset_counts() noexcept {
    for (Plan& planned : plans_) {
        planned.calls = 0;
        planned.failures = 0;
    }
}

int FaultyKernel::enter(Call call) noexcept {
    Plan& planned = plan(call);
    ++planned.calls;
    if (planned.times == 0) [[likely]]
        return 0;
    if (planned.before > 0) {
        --planned.before;
        return 0;
    }
    --planned.times;
    ++planned.failures;
    return planned.error;
}

TimePoint FaultyKernel::now() noexcept {
    enter(Call::now);
    return inner_->now();
}
void FaultyKernel::random(MutableBytes out) noexcept {
    enter(Call::random);
    inner_->random(out);
}
Sys FaultyKernel::add(int fd, Token token, Interest interest) noexcept {
    return forward(Call::add, [&] {
        const Sys result = inner_->add(fd, token, interest);
        if (!result.ok()) return result;
        try {
            registrations_[fd] = {token, interest};
        } catch (const std::bad_alloc&) {
            (void)inner_->remove(fd);
            return Sys::fail(ENOMEM);
        }
        return result;
    });
}
Sys FaultyKernel::modify(int fd, Token token, Interest interest) noexcept {
    return forward(Call::modify, [&] {
        const Sys result = inner_->modify(fd, token, interest);
        const auto found = registrations_.find(fd);
        if (result.ok() && found != registrations_.end()) found->second = {token, interest};
        return result;
    });
}
Sys FaultyKernel::remove(int fd) noexcept {
    return forward(Call::remove, [&] {
        registrations_.erase(fd);
        return inner_->remove(fd);
    });
}
Sys FaultyKernel::shortened(int fd, Sys result, bool limited) noexcept {
    if (limited && result.ok()) look_again(fd);
    return result;
}
void FaultyKernel::look_again(int fd) noexcept {
    const auto found = registrations_.find(fd);
    if (found != registrations_.end())
        (void)inner_->modify(fd, found->second.token, found->second.interest);
}
Sys FaultyKernel::wait(std::span<Event> events, TimePoint deadline) noexcept {
    return forward(Call::wait, [&] { return inner_->wait(events, deadline); });
}
void FaultyKernel::wake() noexcept {
    enter(Call::wake);
    inner_->wake();
}
Sys FaultyKernel::pollable_fd() noexcept {
    return forward(Call::pollable_fd, [&] { return inner_->pollable_fd(); });
}
Sys FaultyKernel::arm(TimePoint deadline) noexcept {
    return forward(Call::arm, [&] { return inner_->arm(deadline); });
}
Sys FaultyKernel::reset() noexcept {
    return forward(Call::reset, [&] {
        registrations_.clear();
        return inner_->reset();
    });
}
void FaultyKernel::outside_work(int change) noexcept {
    enter(Call::outside_work);
    inner_->outside_work(change);
}

Sys FaultyKernel::watch_signal(int number) noexcept {
    return forward(Call::watch_signal, [&] { return inner_->watch_signal(number); });
}
Sys FaultyKernel::unwatch_signal(int number) noexcept {
    return forward(Call::unwatch_signal, [&] { return inner_->unwatch_signal(number); });
}
std::uint64_t FaultyKernel::take_signals() noexcept {
    enter(Call::take_signals);
    return inner_->take_signals();
}

Sys FaultyKernel::recv(int fd, void* data, std::size_t size) noexcept {
    const std::size_t most = plan(Call::recv).most;
    return forward_on(fd, Call::recv, [&] {
        return shortened(fd, inner_->recv(fd, data, std::min(size, most)), size > most);
    });
}
Sys FaultyKernel::send(int fd, const void* data, std::size_t size) noexcept {
    const std::size_t most = plan(Call::send).most;
    return forward_on(fd, Call::send, [&] {
        return shortened(fd, inner_->send(fd, data, std::min(size, most)), size > most);
    });
}
Sys FaultyKernel::sendv(int fd, const iovec* pieces, std::size_t count) noexcept {
    return forward_on(fd, Call::sendv, [&]() -> Sys {
        std::size_t left = plan(Call::sendv).most;
        if (left == SIZE_MAX) return inner_->sendv(fd, pieces, count);
        // The whole pieces within the limit, and if there is none, the start of the first that has
        // bytes.
        while (count > 0 && pieces->iov_len == 0) {
            ++pieces;
            --count;
        }
        if (count > 0 && pieces->iov_len > left)
            return shortened(fd, inner_->send(fd, pieces->iov_base, left), true);
        std::size_t whole = 0;
        while (whole < count && pieces[whole].iov_len <= left)
            left -= pieces[whole++].iov_len;
        return shortened(fd, inner_->sendv(fd, pieces, whole), whole < count);
    });
}
Sys FaultyKernel::send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept {
    return forward_on(fd, Call::send_file,
                      [&] { return inner_->send_file(fd, file, offset, size); });
}
Sys FaultyKernel::read_file(int file, std::uint64_t offset, void* data, std::size_t size) noexcept {
    return forward(Call::read_file, [&] { return inner_->read_file(file, offset, data, size); });
}
Sys FaultyKernel::shutdown_write(int fd) noexcept {
    return forward(Call::shutdown_write, [&] { return inner_->shutdown_write(fd); });
}
void FaultyKernel::close(int fd, bool reset) noexcept {
    enter(Call::close);
    registrations_.erase(fd);
    inner_->close(fd, reset);
}

Sys FaultyKernel::socket(int family, int type, int protocol) noexcept {
    return forward(Call::socket, [&] { return inner_->socket(family, type, protocol); });
}
Sys FaultyKernel::socketpair(int type, int (&fds)[2]) noexcept {
    return forward(Call::socketpair, [&] { return inner_->socketpair(type, fds); });
}
Sys FaultyKernel::bind(int fd, const Address& address) noexcept {
    return forward(Call::bind, [&] { return inner_->bind(fd, address); });
}
Sys FaultyKernel::listen(int fd, int backlog) noexcept {
    return forward(Call::listen, [&] { return inner_->listen(fd, backlog); });
}
Sys FaultyKernel::accept(int fd, Address& peer) noexcept {
    return forward(Call::accept, [&] { return inner_->accept(fd, peer); });
}
Sys FaultyKernel::connect(int fd, const Address& address) noexcept {
    return forward(Call::connect, [&] { return inner_->connect(fd, address); });
}
Sys FaultyKernel::local_address(int fd, Address& address) noexcept {
    return forward(Call::local_address, [&] { return inner_->local_address(fd, address); });
}
Sys FaultyKernel::peer_address(int fd, Address& address) noexcept {
    return forward(Call::peer_address, [&] { return inner_->peer_address(fd, address); });
}
Sys FaultyKernel::set_option(int fd, int level, int name, const void* value,
                             std::size_t size) noexcept {
    return forward(Call::set_option,
                   [&] { return inner_->set_option(fd, level, name, value, size); });
}
Sys FaultyKernel::get_option(int fd, int level, int name, void* value, std::size_t size) noexcept {
    return forward(Call::get_option,
                   [&] { return inner_->get_option(fd, level, name, value, size); });
}
Sys FaultyKernel::peer_credentials(int fd, Credentials& credentials) noexcept {
    return forward(Call::peer_credentials,
                   [&] { return inner_->peer_credentials(fd, credentials); });
}

Sys FaultyKernel::recv_batch(int fd, std::span<DatagramSlot> slots) noexcept {
    const std::size_t most = std::min(slots.size(), plan(Call::recv_batch).most);
    return forward_on(fd, Call::recv_batch, [&] {
        return shortened(fd, inner_->recv_batch(fd, slots.first(most)), most < slots.size());
    });
}
Sys FaultyKernel::send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept {
    const std::size_t most = std::min(datagrams.size(), plan(Call::send_batch).most);
    return forward_on(fd, Call::send_batch, [&] {
        return shortened(fd, inner_->send_batch(fd, datagrams.first(most)),
                         most < datagrams.size());
    });
}
Sys FaultyKernel::recv_error(int fd, Address& to) noexcept {
    return forward(Call::recv_error, [&] { return inner_->recv_error(fd, to); });
}

FileKind FaultyKernel::kind_of(int fd) noexcept {
    enter(Call::kind_of);
    return inner_->kind_of(fd);
}
bool FaultyKernel::is_listening(int fd) noexcept {
    enter(Call::is_listening);
    return inner_->is_listening(fd);
}
Sys FaultyKernel::set_nonblocking(int fd) noexcept {
    return forward(Call::set_nonblocking, [&] { return inner_->set_nonblocking(fd); });
}
Sys FaultyKernel::open_reserve() noexcept {
    return forward(Call::open_reserve, [&] { return inner_->open_reserve(); });
}
FileInfo FaultyKernel::look_at(const std::string& path) noexcept {
    enter(Call::look_at);
    return inner_->look_at(path);
}
Sys FaultyKernel::unlink(const std::string& path) noexcept {
    return forward(Call::unlink, [&] { return inner_->unlink(path); });
}
std::error_code FaultyKernel::resolve(const std::string& host, std::uint16_t port,
                                      std::vector<Address>& addresses) {
    if (const int error = enter(Call::resolve)) {
        addresses.clear();
        return errno_code(error);
    }
    return inner_->resolve(host, port, addresses);
}

} // namespace weft::sim
