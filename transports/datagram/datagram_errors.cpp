// Some facts about datagram sockets on Linux
//
// An ICMP error makes a connected socket report ERR, and fails the next call that is made, whatever
// it is: a receive, though datagrams wait; a send, which then sends nothing; or SO_ERROR. Whoever
// asks first takes it away. An unconnected socket hears of it only with IP_RECVERR (ip(7)), which
// keeps it in a queue as well, with the address that it is about; taking it out of the queue takes
// it away from the next call, and until the queue is empty ERR is reported, whether asked for or
// not. So at ERR the queue is emptied first, then SO_ERROR is asked.
//
// A sendmmsg(2) that meets such an error after the first datagram returns a short count and forgets
// the error; the queue does not.
//
// After shutdown(2) of the receiving direction a socket is readable for ever, and has nothing to
// read.

#include "datagram_endpoint.hpp"

#include <cerrno>
#include <sys/socket.h>

namespace weft::detail {
namespace {

// Entries of the error queue taken at once. The kernel bounds the queue by SO_RCVBUF.
constexpr int errors_per_turn = 64;

} // namespace

void DatagramEndpoint::receive_failed(int error) {
    // Not a datagram's fate but the descriptor's: closed or exchanged behind our back, and so
    // without end.
    if (error == EBADF || error == ENOTSOCK) return abort(errno_code(error));
    if (!has(errors_queued) || take_queued_errors() == 0) note_error(error, peer_);
    deliver_errors();
}

/// Empties the error queue, but for entries that say `except`; how many there were.
std::size_t DatagramEndpoint::take_queued_errors(int except) {
    std::size_t taken = 0;
    for (; taken < errors_per_turn; ++taken) {
        Address to;
        const Sys got = core_.kernel().recv_error(fd_, to);
        if (!got.ok()) break;
        const int error = static_cast<int>(got.value());
        if (error != 0 && error != except) note_error(error, to.empty() ? peer_ : to);
    }
    return taken;
}

/// The socket reported ERR.
void DatagramEndpoint::take_errors() {
    // A Unix socket has no such queue, and would hand out a datagram instead.
    if (has(internet)) (void)take_queued_errors();
    const Sys error = core_.kernel().get_option(fd_, SocketOption::error);
    if (error.ok() && error.value() != 0) note_error(static_cast<int>(error.value()), peer_);
    deliver_errors();
}

void DatagramEndpoint::note_error(int error, const Address& to, bool at_send) {
    // A program that sends thousands into a wall in one callback learns of the first thousand.
    constexpr std::size_t most = 1000;
    if (errors_.size() < most) errors_.push_back({errno_code(error), to, at_send});
}

/// Only when nothing of the endpoint is on the stack. What the calls give rise to waits for the
/// next time.
void DatagramEndpoint::deliver_errors() {
    if (errors_.empty()) return;
    const std::vector<SendError> errors = std::exchange(errors_, {});
    for (const SendError& error : errors) {
        if (phase_ == Phase::aborted) return;
        guarded(error.at_send ? "send_failed" : "error_received", [&] {
            if (error.at_send) return protocol_->send_failed(error.code, error.to);
            protocol_->error_received(error.code, error.to);
        });
    }
}

} // namespace weft::detail
