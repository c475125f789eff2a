// A connect call: its name look-up, its addresses, of which the first that answers is taken
// (RFC 8305), and its layer.

#include "connecting.hpp"

#include "../stream/stream_transport.hpp"
#include "socket_options.hpp"

#include <algorithm>
#include <cerrno>

namespace weft::detail {
namespace {

/// Families in turn, so that one that does not work costs one delay and not several (RFC 8305, 4).
std::vector<Address> interleaved(std::vector<Address> addresses) {
    std::vector<Address> result;
    while (!addresses.empty()) {
        auto next = addresses.begin();
        if (!result.empty()) {
            const auto other =
                std::find_if(addresses.begin(), addresses.end(), [&](const Address& a) {
                    return a.family() != result.back().family();
                });
            if (other != addresses.end()) next = other;
        }
        result.push_back(*next);
        addresses.erase(next);
    }
    return result;
}

} // namespace

// Still under way, and nobody is left to go on with it: the loop was closed during the look-up.
Connecting::~Connecting() {
    if (!over())
        promise_.set_error_if_pending(
            {Errc::aborted, "connect to " + target_ + " (the loop was closed)"});
}

Future<TransportRef> Connecting::begin() {
    auto future = promise_.future();
    if (options_.layer) {
        auto layer = options_.layer(std::move(protocol_));
        opened_ = layer->when_open(loop_);
        protocol_ = std::move(layer);
    }
    promise_.on_cancel([weak = weak_from_this()] {
        if (auto self = weak.lock()) self->end();
    });
    if (options_.timeout > Duration::zero()) {
        deadline_ =
            loop_.call_later(options_.timeout, [self = shared_from_this()] { self->timed_out(); });
    }
    return future;
}

void Connecting::look_up(const std::string& host, std::uint16_t port) {
    look_up_ = core_of(loop_).resolver().look_up(loop_, host, port);
    look_up_.add_done_callback([self = shared_from_this()](Future<std::vector<Address>> done) {
        if (self->over()) return;
        if (done.cancelled()) return self->end();
        if (const auto error = done.error_code()) return self->fail({error, "look-up"});
        self->try_addresses(interleaved(done.take()));
    });
}

void Connecting::try_addresses(std::vector<Address> addresses) {
    addresses_ = std::move(addresses);
    if (addresses_.empty()) return fail({Errc::bad_address, "no address"});
    if (options_.local_address)
        std::erase_if(addresses_, [&](const Address& address) {
            return !local_for(*options_.local_address, address);
        });
    if (options_.socket >= 0) {
        Kernel& kernel = core_of(loop_).kernel();
        const std::string which = "descriptor " + std::to_string(options_.socket);
        if (kernel.kind_of(options_.socket) != FileKind::stream_socket)
            return fail({errno_code(ENOTSOCK), which});
        Address own; // of a socket without a name: its family
        if (const Sys asked = kernel.local_address(options_.socket, own); !asked.ok())
            return fail({asked.code(), which});
        keep_family(own.family());
        if (!addresses_.empty()) addresses_.resize(1);
    }
    if (addresses_.empty())
        return fail({std::make_error_code(std::errc::address_family_not_supported),
                     options_.socket >= 0 ? "no address of the socket's family"
                                          : "no address that can be reached from " +
                                                options_.local_address->to_string()});
    next_attempt();
}

void Connecting::keep_family(Address::Family family) {
    std::erase_if(addresses_, [&](const Address& address) { return address.family() != family; });
}

// Whether an address may be tried beside those that have not answered yet.
bool Connecting::may_try_another() const noexcept {
    const bool port_is_taken = options_.local_address && options_.local_address->port() != 0;
    return next_ < addresses_.size() && options_.attempt_delay != Duration::max() && !port_is_taken;
}

void Connecting::next_attempt() {
    while (!over() && next_ < addresses_.size()) {
        attempts_.push_back(
            std::make_unique<Attempt>(shared_from_this(), core_of(loop_), addresses_[next_++]));
        Attempt& attempt = *attempts_.back();
        if (const auto error = attempt.start(options_)) {
            note_failure(attempt.address(), error);
            attempts_.pop_back();
            continue;
        }
        if (may_try_another())
            stagger_ = loop_.call_later(options_.attempt_delay,
                                        [self = shared_from_this()] { self->next_attempt(); });
        return;
    }
    if (attempts_.empty()) fail({first_error_, failures_});
}

void Connecting::note_failure(const Address& address, std::error_code error) {
    if (!first_error_) first_error_ = error;
    note(address, error.message());
}

void Connecting::note(const Address& address, const std::string& what) {
    // With a single numeric address the target and the code say it all.
    if (addresses_.size() == 1 && address.to_string() == target_) return;
    if (!failures_.empty()) failures_ += "; ";
    failures_ += address.to_string() + ": " + what;
}

void Connecting::timed_out() {
    for (const auto& attempt : attempts_)
        note(attempt->address(), "no answer");
    fail({std::make_error_code(std::errc::timed_out), addresses_.empty() ? "look-up" : failures_});
}

void Connecting::failed(Attempt& attempt, std::error_code error) {
    note_failure(attempt.address(), error);
    std::erase_if(attempts_, [&](const auto& mine) { return mine.get() == &attempt; });
    stagger_.cancel();
    next_attempt();
}

void Connecting::connected(Attempt& attempt, std::uint32_t ready) {
    const auto keep = shared_from_this();
    const Token token = attempt.token();
    const auto kind = attempt.address().is_ip() ? StreamKind::tcp : StreamKind::unix_socket;
    const Address peer = attempt.address();
    const int fd = attempt.release();
    auto* transport = new StreamTransport(core_of(loop_), fd, kind, peer);
    core_of(loop_).sources().replace(token, *transport);
    auto protocol = std::move(protocol_);
    auto ref = TransportRef(core_of(loop_).mailbox(), token);
    const TimePoint limit = deadline_.when();
    end();
    transport->open(token, std::move(protocol), ready);
    // What ended inside `connection_made` is there until the closing phase.
    if (transport->is_closing()) {
        const auto why = transport->drain().error_code();
        if (why == Errc::callback_threw)
            promise_.set_error_if_pending({why, "connect to " + target_ + " (connection_made)"});
    }
    if (opened_.valid()) return wait_until_open(std::move(ref), limit);
    // Either the future is cancelled or there is a connection.
    if (!promise_.set_value_if_pending(std::move(ref))) transport->abort(Errc::aborted);
}

/// A layer may have to settle something with its peer first.
void Connecting::wait_until_open(TransportRef below, TimePoint limit) {
    const auto abort = [below](std::error_code why) {
        if (Transport* const open = below.get()) open->abort(why);
    };
    if (limit != TimePoint::max())
        deadline_ =
            loop_.call_at(limit, [abort] { abort(std::make_error_code(std::errc::timed_out)); });
    promise_.on_cancel([abort] { abort(Errc::aborted); });
    if (!promise_.pending()) abort(Errc::aborted); // cancelled in `connection_made`
    opened_.add_done_callback([self = shared_from_this()](Future<TransportRef> opened) {
        self->deadline_.cancel();
        if (const auto error = opened.error_code()) {
            self->promise_.set_error_if_pending(
                {error, "connect to " + self->target_ + " (the connection was not opened)"});
        } else {
            self->promise_.set_value_if_pending(opened.take());
        }
    });
}

void Connecting::fail(const Error& error) {
    if (over()) return;
    const auto keep = shared_from_this();
    end();
    const std::string detail = error.context.empty() ? std::string() : " (" + error.context + ")";
    promise_.set_error_if_pending({error.code, "connect to " + target_ + detail});
}

// Closes what was begun. The protocol of a failed connection is destroyed without ever having been
// called.
void Connecting::end() noexcept {
    const auto keep = weak_from_this().lock();
    auto protocol = std::move(protocol_);
    auto attempts = std::move(attempts_);
    attempts_.clear();
    deadline_.cancel();
    stagger_.cancel();
    if (look_up_.valid()) std::exchange(look_up_, {}).cancel();
}

} // namespace weft::detail
