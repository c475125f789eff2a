#include "state.hpp"

#include <cerrno>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

// The socket calls: they find the socket, refuse what its type cannot do, and hand over.

namespace weft::sim {
namespace {

using Phase = Socket::Phase;

/// 0, or what a call for streams says to any other descriptor.
int not_a_stream(const Socket* socket, int wrong_type) noexcept {
    if (!socket) return EBADF;
    if (socket->type == 0) return ENOTSOCK;
    return socket->is_stream() ? 0 : wrong_type;
}

int not_a_socket(const Socket* socket) noexcept {
    if (!socket) return EBADF;
    return socket->type == 0 ? ENOTSOCK : 0;
}

} // namespace

Sys SimKernel::bind(int fd, const Address& address) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    return state_->bind(*socket, address);
}

Sys SimKernel::listen(int fd, int backlog) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_stream(socket, EOPNOTSUPP)) return Sys::fail(error);
    return state_->listen(*socket, backlog);
}

Sys SimKernel::accept(int fd, Address& peer) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_stream(socket, EOPNOTSUPP)) return Sys::fail(error);
    if (state_->open_count >= state_->options.descriptor_limit) return Sys::fail(EMFILE);
    if (socket->phase != Phase::listening) return Sys::fail(EINVAL);
    if (socket->listener->queue.empty()) return Sys::fail(EAGAIN);
    auto child = socket->listener->queue.pop();
    peer = child->is_unix() ? unix_address(child->unix_peer) : child->remote.address(child->family);
    return state_->open(std::move(child));
}

Sys SimKernel::connect(int fd, const Address& address) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    return socket->is_stream() ? state_->stream_connect(*socket, address)
                               : state_->datagram_connect(*socket, address);
}

Sys SimKernel::local_address(int fd, Address& address) noexcept {
    Socket* socket = state_->find(fd);
    address = Address();
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (socket->is_unix()) {
        address = unix_address(socket->unix_name);
    } else {
        const bool unbound = socket->local == Endpoint{};
        const Endpoint any = Endpoint::of(Address::any_ipv4(0));
        address =
            (unbound && socket->family == AF_INET ? any : socket->local).address(socket->family);
    }
    return Sys(0);
}

Sys SimKernel::peer_address(int fd, Address& address) noexcept {
    Socket* socket = state_->find(fd);
    address = Address();
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (socket->phase != Phase::established) return Sys::fail(ENOTCONN);
    address = socket->is_unix() ? unix_address(socket->unix_peer)
                                : socket->remote.address(socket->family);
    return Sys(0);
}

Sys SimKernel::set_option(int fd, SocketOption option, int value) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    return state_->set_option(*socket, option, value);
}

Sys SimKernel::get_option(int fd, SocketOption option) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    return state_->get_option(*socket, option);
}

Sys SimKernel::join_group(int fd, const Address& group, std::uint32_t,
                          const Address* source) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    return state_->join_group(*socket, group, source);
}

Sys SimKernel::leave_group(int fd, const Address& group, std::uint32_t,
                           const Address* source) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    return state_->leave_group(*socket, group, source);
}

Sys SimKernel::peer_credentials(int fd, Credentials& credentials) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    const bool paired = socket->is_unix() && socket->phase == Phase::established;
    if (!paired) return Sys::fail(ENOTCONN);
    credentials = state_->options.credentials;
    return Sys(0);
}

Sys SimKernel::recv(int fd, void* data, std::size_t size) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (socket->is_stream()) return state_->stream_recv(*socket, data, size);
    if (socket->error != 0) return Sys::fail(socket->take_error());
    DatagramSlot slot;
    slot.data = static_cast<std::byte*>(data);
    slot.capacity = size;
    return state_->datagram_recv(*socket, slot);
}

Sys SimKernel::send(int fd, const void* data, std::size_t size) noexcept {
    const iovec piece{const_cast<void*>(data), size};
    return sendv(fd, &piece, 1);
}

Sys SimKernel::sendv(int fd, const iovec* pieces, std::size_t count) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (socket->is_stream()) return state_->stream_send(*socket, pieces, count);
    std::vector<std::byte> whole;
    for (std::size_t i = 0; i < count; ++i) {
        const auto* data = static_cast<const std::byte*>(pieces[i].iov_base);
        whole.insert(whole.end(), data, data + pieces[i].iov_len);
    }
    OutDatagram datagram;
    datagram.data = whole;
    return state_->datagram_send(*socket, datagram);
}

Sys SimKernel::shutdown_write(int fd) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (socket->is_stream()) return state_->stream_shutdown(*socket);
    if (socket->phase != Phase::established && !socket->is_unix()) return Sys::fail(ENOTCONN);
    socket->send_shut = true;
    state_->notify(*socket);
    return Sys(0);
}

Sys SimKernel::recv_batch(int fd, std::span<DatagramSlot> slots) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (socket->is_stream()) return Sys::fail(EOPNOTSUPP);
    if (socket->error != 0) return Sys::fail(socket->take_error());
    std::size_t count = 0;
    while (count < slots.size() && state_->datagram_recv(*socket, slots[count]).ok())
        ++count;
    return count == 0 && !slots.empty() ? Sys::fail(EAGAIN) : Sys(static_cast<std::int64_t>(count));
}

Sys SimKernel::send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (socket->is_stream()) return Sys::fail(EOPNOTSUPP);
    std::size_t count = 0;
    for (const OutDatagram& each : datagrams) {
        const Sys sent = state_->datagram_send(*socket, each);
        if (!sent.ok()) return count > 0 ? Sys(static_cast<std::int64_t>(count)) : sent;
        ++count;
    }
    return Sys(static_cast<std::int64_t>(count));
}

Sys SimKernel::recv_error(int fd, Address& to) noexcept {
    Socket* socket = state_->find(fd);
    if (const int error = not_a_socket(socket)) return Sys::fail(error);
    if (!socket->is_datagram() || socket->datagrams->errors.empty()) return Sys::fail(EAGAIN);
    auto& errors = socket->datagrams->errors;
    int error;
    std::tie(error, to) = errors.pop();
    // What `SocketOption::error` says is the next entry's, or nothing once the last was taken.
    socket->error = errors.empty() ? 0 : errors.front().first;
    return Sys(error);
}

} // namespace weft::sim
