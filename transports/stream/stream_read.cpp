// Some facts about edge-triggered streams. A socket registered once with
// EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET reports each change once: data arriving, room appearing after
// a send found none, FIN, RST. Between changes it costs nothing, so pausing and resuming are a flag
// here and no system call. The price is that `readable` and `writable` must be remembered, and
// cleared only by proof: EAGAIN, or, on TCP, a read that did not fill the buffer or a send that did
// not take everything (the kernel then reports the next change). After FIN or RST was announced a
// short read proves nothing, because the end of the stream still has to be read and no further edge
// will come. Unix sockets may return short reads at message borders with more behind them, so only
// EAGAIN counts there.

#include "stream_callbacks.hpp"
#include "stream_transport.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>

namespace weft::detail {

/// One read, or a part of what was given back: a count above 0, 0 at the end, or an error.
[[gnu::always_inline]] inline Sys StreamTransport::read_some(MutableBytes into) {
    if (has(given_back)) [[unlikely]]
        return take_given_back(into);
    const Sys got = channel().recv(fd_, into.data(), into.size());
    if (got.value() <= 0) return got;
    if (got.count() < into.size() && (flags_ & (short_read_empties | hangup)) == short_read_empties)
        flags_ &= ~(readable | ready_told);
    note_activity();
    return got;
}

Sys StreamTransport::take_given_back(MutableBytes into) noexcept {
    HeldInput& given = extras_->unread;
    const std::size_t size = given.take(into);
    if (given.empty()) flags_ &= ~given_back;
    return Sys(static_cast<std::int64_t>(size));
}

void StreamTransport::unread(Bytes data) {
    if (has(closing) || data.empty()) return;
    if (has(eof_seen) && !see_eof_again()) return;
    extras().unread.put_back(data);
    flags_ |= given_back;
    flags_ &= ~ready_told;
    if (can_read()) queue_again();
}

/// The end of the stream that `try_read` met is met again by the next read: for what comes before
/// it once more, or for another protocol. False if `eof_received` was called already.
bool StreamTransport::see_eof_again() noexcept {
    if (reading_ != Reading::pull || !traits().reads) return false;
    enter(Receiving::open);
    flags_ |= readable | hangup;
    return true;
}

void StreamTransport::receive_pushed() {
    Share share(core_);
    for (;;) {
        const MutableBytes buffer = core_.receive_buffer().room();
        const Sys got = read_some(buffer);
        if (got.value() <= 0) return read_ended(got);
        const std::size_t size = got.count();
        if (!guarded("data_received", [&] { protocol_->data_received(buffer.first(size)); }))
            return;
        // Whoever kept the span beyond the call shall notice.
        if (core_.debug()) [[unlikely]]
            core_.receive_buffer().spoil(size);
        if (!can_read()) [[likely]]
            return;
        // It had its share, or the protocol was exchanged for one that reads otherwise.
        if (reading_ != Reading::push || !share.spend(size)) return queue_again();
    }
}

[[gnu::always_inline]] inline void StreamTransport::receive() {
    if (reading_ == Reading::push) return receive_pushed();
    receive_otherwise();
}

void StreamTransport::receive_otherwise() {
    if (reading_ == Reading::pull) return offer_pull();
    receive_buffered();
}

void StreamTransport::receive_buffered() {
    Share share(core_);
    for (;;) {
        MutableBytes buffer;
        flags_ &= ~exchanged;
        if (!guarded("get_buffer",
                     [&] { buffer = protocol_->get_buffer(core_.options().receive_buffer); }))
            return;
        if (has(exchanged)) return queue_again(); // the memory may have gone with the protocol
        if (!can_read()) return;                  // closed or paused inside get_buffer
        if (buffer.empty()) {
            abort(Errc::empty_buffer);
            return core_.report({describe("get_buffer"), nullptr, std::source_location()});
        }
        const Sys got = read_some(buffer);
        if (got.value() <= 0) return read_ended(got);
        const std::size_t size = got.count();
        if (!guarded("buffer_updated", [&] { protocol_->buffer_updated(size); })) return;
        if (!can_read()) return;
        if (reading_ != Reading::buffered || !share.spend(size)) return queue_again();
    }
}

void StreamTransport::offer_pull() {
    if (has(ready_told)) return;
    flags_ |= ready_told;
    guarded("read_ready", [&] { protocol_->read_ready(); });
}

void StreamTransport::on_ready(std::uint32_t ready) {
    // What a busy connection hears over and over: with each edge of input Linux tells of room as
    // well.
    constexpr std::uint32_t usual = ready::readable | ready::writable;
    static_assert(readable == ready::readable && writable == ready::writable);
    if (ready == 0 || (ready & ~usual) != 0) [[unlikely]]
        return on_other_event(ready);
    flags_ |= ready;
    if (has(queued) && (ready & ready::writable)) [[unlikely]]
        flush_queue();
    if (can_read()) [[likely]]
        return receive();
    not_readable(ready);
}

[[gnu::noinline]] void StreamTransport::on_other_event(std::uint32_t ready) {
    constexpr auto ended = ready::read_hangup | ready::hangup | ready::error;
    if (ready == 0) {
        flags_ &= ~again_queued;
        if (has(queued)) flush_queue(); // a file that was put in it, or had its share of a turn
    } else {
        if (ready & (ready::readable | ended)) flags_ |= readable;
        if (ready & ended) flags_ |= hangup;
        // A read ends at the urgent mark, with more behind it (tcp(7)): no proof any more, as long
        // as this lives.
        if (ready & ready::priority) flags_ &= ~short_read_empties;
        if (ready & ready::error) reset_by_peer();
        if (ready & (ready::writable | ended)) {
            flags_ |= writable;
            if (has(queued)) flush_queue();
        }
    }
    if (can_read()) return receive();
    not_readable(ready);
}

[[gnu::noinline]] void StreamTransport::not_readable(std::uint32_t ready) {
    if (life() == Life::lingering) return discard_input();
    if (has(unannounced) && !finishing()) {
        announce();
        if (can_read()) queue_again();
        broken_after_eof(ready);
    } else if (ready & (ready::error | ready::hangup)) {
        broken_after_eof(ready);
    }
}

/// Once nothing is read any more an error shows here or nowhere: a reset after the peer's FIN, a
/// pipe without a reader. A terminal whose other side was closed only hangs up.
void StreamTransport::broken_after_eof(std::uint32_t ready) {
    const bool writer = !traits().reads;
    if (!has(eof_seen) || finishing() ||
        (!(ready & ready::error) && !(writer && (ready & ready::hangup))))
        return;
    int error = writer ? EPIPE : 0;
    if (traits().is_socket)
        if (const Sys told = core_.kernel().get_option(fd_, SocketOption::error); told.ok())
            error = static_cast<int>(told.value());
    finish(errno_code(error != 0 ? error : ECONNRESET));
}

/// The connection broke, which a protocol that pulls would find out only when it reads: so that
/// nothing can be sent any more is told at once. What came before, and the error itself, are still
/// to be read.
void StreamTransport::reset_by_peer() {
    if ((reading_ != Reading::pull && !has(held)) || !traits().resets ||
        has(unannounced | eof_seen) || broken() || finishing())
        return;
    send_failed(ECONNRESET);
    flags_ &= ~ready_told;
}

// A read brought no bytes: nothing there, the end, or an error.
void StreamTransport::read_ended(Sys result) {
    if (result.ok()) return got_eof();
    if (result.would_block()) {
        flags_ &= ~readable;
        if (broken()) finish(extras().write_error);
        return;
    }
    // Linux reports the end of a pseudo-terminal's other side so.
    if (result.error() == EIO && !traits().writes) return got_eof();
    report_if_odd(result.error(), "receiving");
    finish(result.code());
}

// A peer that goes away is the order of the day; any other failure is also told to whoever looks
// after the loop.
void StreamTransport::report_if_odd(int error, const char* what) {
    if (error == ECONNRESET || error == EPIPE || error == ECONNABORTED) return;
    auto exception = std::make_exception_ptr(std::system_error(errno_code(error), describe(what)));
    core_.report({"a connection failed", std::move(exception), std::source_location()});
}

void StreamTransport::got_eof() {
    enter(Receiving::ended);
    flags_ &= ~readable;
    if (broken()) return finish(extras().write_error);
    bool keep_open = false;
    if (!guarded("eof_received", [&] { keep_open = protocol_->eof_received(); })) return;
    if (!keep_open || (sending() == Sending::ended && !has(ended_above))) close();
}

ReadResult StreamTransport::try_read(MutableBytes into) {
    using State = ReadResult::State;
    const std::uint32_t known = flags_ & (readable | closing | eof_seen | given_back);
    if (known == 0) { // which is what most reads find that come after one that emptied the socket
        flags_ &= ~ready_told;
        return {State::would_block};
    }
    if (known != readable || into.empty()) [[unlikely]]
        return try_read_otherwise(into);
    const Sys got = read_some(into);
    if (got.value() > 0) [[likely]]
        return {State::data, got.count(), !has(readable)};
    return try_read_ended(got);
}

ReadResult StreamTransport::try_read_otherwise(MutableBytes into) {
    using State = ReadResult::State;
    if (has(eof_seen)) return {State::eof};
    if (has(closing)) return {State::failed};
    if (into.empty()) throw UsageError(describe("try_read: no room to read into"));
    const Sys got = read_some(into);
    return got.value() > 0 ? ReadResult{State::data, got.count()} : try_read_ended(got);
}

ReadResult StreamTransport::try_read_ended(Sys got) {
    using State = ReadResult::State;
    if (got.ok()) {
        // Who is pushed to is told by `eof_received`, which comes with the next read.
        if (reading_ != Reading::pull) return {State::eof};
        flags_ &= ~readable;
        // a reset that sending was told of looks like this, with bytes missing perhaps
        if (broken()) {
            finish(extras().write_error);
            return {State::failed};
        }
        enter(Receiving::ended);
        return {State::eof};
    }
    flags_ &= ~readable;
    if (got.would_block()) {
        flags_ &= ~ready_told;
        if (!broken()) return {State::would_block};
        finish(extras().write_error);
        return {State::failed};
    }
    report_if_odd(got.error(), "receiving");
    finish(got.code());
    return {State::failed};
}

void StreamTransport::pause_reading() {
    flags_ |= paused;
}

void StreamTransport::resume_reading() {
    flags_ &= ~paused;
    if (can_read()) queue_again();
}

// Another turn for this connection, because it has had its share of this one or nobody is there to
// be called.
void StreamTransport::queue_again() {
    if (has(again_queued)) return;
    flags_ |= again_queued;
    core_.again(token_, 0);
}

} // namespace weft::detail
