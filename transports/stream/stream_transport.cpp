// Some facts about edge-triggered streams. A socket registered once with
// EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET reports each change once: data arriving, room appearing after
// a send found none, FIN, RST. Between changes it costs nothing, so pausing and resuming are a flag
// here and no system call. The price is that `readable` and `writable` must be remembered, and
// cleared only by proof: EAGAIN, or, on TCP, a read that did not fill the buffer or a send that did
// not take everything (the kernel then reports the next change). After FIN or RST was announced a
// short read proves nothing, because the end of the stream still has to be read and no further edge
// will come. Unix sockets may return short reads at message borders with more behind them, so only
// EAGAIN counts there.

#include "stream_transport.hpp"

#include "../server/server_state.hpp"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <sys/socket.h>

namespace weft::detail {
namespace {

// Turns that an idle time-out waits for news that the kernel could not tell yet: enough for half a
// million connections.
constexpr unsigned most_put_off = 1000;

} // namespace

StreamTransport::StreamTransport(LoopCore& core, int fd, StreamKind kind, const Address& peer,
                                 ByteChannel* pair)
    : core_(core), fd_(fd),
      flags_(writable | (kind == StreamKind::tcp ? std::uint32_t{short_read_empties} : 0U)),
      kind_(kind) {
    // A pipe has one direction; the other one counts as having ended already.
    if (kind == StreamKind::pipe_reader) flags_ |= eof_wanted | eof_sent;
    if (kind == StreamKind::pipe_writer) flags_ |= eof_seen;
    if (peer.size() <= peer_.size()) {
        peer_size_ = static_cast<std::uint8_t>(peer.size());
        std::memcpy(peer_.data(), peer.data(), peer.size());
    } else {
        extras().peer = peer;
    }
    if (kind == StreamKind::memory) extras().channel = pair;
}

/// Returns the one before it.
std::unique_ptr<Protocol> StreamTransport::use(std::unique_ptr<Protocol> protocol) noexcept {
    reading_ = protocol->reading();
    return std::exchange(protocol_, std::move(protocol));
}

void StreamTransport::reading_changed() {
    const Reading before = std::exchange(reading_, protocol_->reading());
    if (reading_ != before && can_read()) queue_again();
}

void StreamTransport::open(Token token, std::unique_ptr<Protocol> protocol, std::uint32_t ready) {
    token_ = token;
    use(std::move(protocol));
    if (ready & (ready::readable | ready::read_hangup | ready::hangup | ready::error))
        flags_ |= readable;
    if (ready & (ready::read_hangup | ready::hangup | ready::error)) flags_ |= hangup;
    announce();
    if (can_read()) queue_again();
}

void StreamTransport::open_later(Token token, std::unique_ptr<Protocol> protocol) {
    token_ = token;
    use(std::move(protocol));
    flags_ |= unannounced;
    queue_again();
}

std::error_code StreamTransport::adopt(LoopCore& core, int fd, StreamKind kind, const Address& peer,
                                       std::unique_ptr<Protocol> protocol, TransportRef& ref) {
    Kernel& kernel = core.kernel();
    auto transport = std::make_unique<StreamTransport>(core, fd, kind, peer);
    const Token token = core.sources().add(*transport);
    Sys done = kernel.add(fd, token, Interest::stream);
    // Only now: what is refused shall stay as it is.
    if (done.ok()) {
        done = kernel.set_nonblocking(fd);
        if (!done.ok()) (void)kernel.remove(fd);
    }
    if (!done.ok()) {
        core.remove_source(token);
        return done.code();
    }
    transport->open_later(token, std::move(protocol));
    ref = transport.release()->ref(); // the loop owns it from here on
    return {};
}

void StreamTransport::announce() {
    flags_ &= ~unannounced;
    guarded("connection_made", [&] { protocol_->connection_made(*this); });
    check_high_water(); // it may have been written to before
}

StreamTransport& StreamTransport::from_server_link(ListNode& link) noexcept {
    // The list holds nothing but this member of transports.
    auto* bytes = reinterpret_cast<std::byte*>(&link);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof"
    return *reinterpret_cast<StreamTransport*>(bytes - offsetof(StreamTransport, server_link));
#pragma GCC diagnostic pop
}

void StreamTransport::attach(ServerState& server) noexcept {
    server_ = &server;
    server.add_connection(server_link);
}

StreamTransport::Extras& StreamTransport::extras() {
    if (!extras_) extras_ = std::make_unique<Extras>(*this);
    return *extras_;
}

std::string StreamTransport::describe(const char* what) const {
    return std::string(what) + " of the connection " + local_address().to_string() + " with " +
           peer_address().to_string();
}

/// Calls the user with writes gathered, and turns what comes out into the connection's end. False
/// if it threw. Calls come from the loop, never from inside another callback, so the cork buffer is
/// free.
template<class Call>
[[gnu::always_inline]] inline bool StreamTransport::guarded(const char* name, Call&& call) {
    CorkScope gathering(core_.cork(), *this, may_gather());
    try {
        call();
    } catch (...) {
        gathering.drop();
        callback_threw(name);
        return false;
    }
    gathering.flush();
    return true;
}

/// In a catch block: the connection ends.
void StreamTransport::callback_threw(const char* name) {
    abort(Errc::callback_threw);
    core_.report_exception(describe(name));
}

/// In a catch block: hands the exception on. One that is to leave `run` is returned, to be thrown
/// when the connection's state is whole.
std::exception_ptr StreamTransport::reported(const char* name) {
    try {
        core_.report_exception(describe(name));
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}

// --- Reading ---

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
    Extras& extra = *extras_;
    const std::size_t size = std::min(into.size(), extra.unread.size() - extra.unread_begin);
    std::memcpy(into.data(), extra.unread.data() + extra.unread_begin, size);
    extra.unread_begin += size;
    if (extra.unread_begin == extra.unread.size()) {
        flags_ &= ~given_back;
        extra.unread = {};
        extra.unread_begin = 0;
    }
    return Sys(static_cast<std::int64_t>(size));
}

void StreamTransport::unread(Bytes data) {
    if (has(closing) || data.empty()) return;
    if (has(eof_seen) && !see_eof_again()) return;
    Extras& extra = extras();
    // What was taken leaves room in front: who gives back what it did not use moves no other byte.
    const std::size_t room = std::min(extra.unread_begin, data.size());
    const Bytes front = data.first(data.size() - room);
    extra.unread_begin -= room;
    const auto begin = extra.unread.begin() + static_cast<std::ptrdiff_t>(extra.unread_begin);
    std::copy(data.end() - static_cast<std::ptrdiff_t>(room), data.end(), begin);
    extra.unread.insert(begin, front.begin(), front.end());
    flags_ |= given_back;
    flags_ &= ~ready_told;
    if (can_read()) queue_again();
}

/// The end of the stream that `try_read` met is met again by the next read: for what comes before
/// it once more, or for another protocol. False if `eof_received` was called already.
bool StreamTransport::see_eof_again() noexcept {
    if (reading_ != Reading::pull || kind_ == StreamKind::pipe_writer) return false;
    flags_ &= ~eof_seen;
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
        const Protocol* asked = protocol_.get();
        if (!guarded("get_buffer",
                     [&] { buffer = protocol_->get_buffer(core_.options().receive_buffer); }))
            return;
        if (protocol_.get() != asked) return queue_again(); // the memory may have gone with it
        if (!can_read()) return;                            // closed or paused inside get_buffer
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
    if (has(lingering | unannounced) && !has(finishing)) {
        if (has(lingering)) return discard_input();
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
    const bool writer = kind_ == StreamKind::pipe_writer;
    if (!has(eof_seen) || has(finishing) ||
        (!(ready & ready::error) && !(writer && (ready & ready::hangup))))
        return;
    int error = writer ? EPIPE : 0;
    if (kind_ < StreamKind::memory)
        if (const Sys told = core_.kernel().get_option(fd_, SocketOption::error); told.ok())
            error = static_cast<int>(told.value());
    finish(errno_code(error != 0 ? error : ECONNRESET));
}

/// The connection broke, which a protocol that pulls would find out only when it reads: so that
/// nothing can be sent any more is told at once. What came before, and the error itself, are still
/// to be read.
void StreamTransport::reset_by_peer() {
    if (reading_ != Reading::pull || is_pipe() ||
        has(write_broken | finishing | unannounced | eof_seen))
        return;
    send_failed(ECONNRESET);
    flags_ &= ~ready_told;
}

// A read brought no bytes: nothing there, the end, or an error.
void StreamTransport::read_ended(Sys result) {
    if (result.ok()) return got_eof();
    if (result.would_block()) {
        flags_ &= ~readable;
        if (has(write_broken)) finish(extras().write_error);
        return;
    }
    // Linux reports the end of a pseudo-terminal's other side so.
    if (result.error() == EIO && kind_ == StreamKind::pipe_reader) return got_eof();
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
    flags_ |= eof_seen;
    flags_ &= ~readable;
    if (has(write_broken)) return finish(extras().write_error);
    bool keep_open = false;
    if (!guarded("eof_received", [&] { keep_open = protocol_->eof_received(); })) return;
    if (!keep_open || has(eof_sent)) close();
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
        if (has(write_broken)) {
            finish(extras().write_error);
            return {State::failed};
        }
        flags_ |= eof_seen;
        return {State::eof};
    }
    flags_ &= ~readable;
    if (got.would_block()) {
        flags_ &= ~ready_told;
        if (!has(write_broken)) return {State::would_block};
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

std::unique_ptr<Protocol> StreamTransport::set_protocol(std::unique_ptr<Protocol> protocol) {
    if (!protocol) throw UsageError("set_protocol: the protocol is null");
    if (has(eof_seen) && !has(closing)) (void)see_eof_again();
    protocol = use(std::move(protocol));
    flags_ &= ~(ready_told | pause_told);
    if (can_read()) queue_again();
    return protocol;
}

// --- Ending ---

void StreamTransport::close(std::error_code reason) {
    if (has(closing)) return;
    flags_ |= closing;
    if (reason) extras().reason = reason;
    note_room();
    if (!has(queued) && !in_callback()) finish_or_linger();
}

void StreamTransport::close_within(Duration limit) {
    close();
    if (has(finishing)) return;
    Extras& extra = extras();
    extra.close_limit = std::min(extra.close_limit, core_.deadline_in(limit));
    arm(extra, extra.armed() ? extra.deadline() : TimePoint::max());
}

void StreamTransport::abort(std::error_code reason) {
    if (has(finishing)) return;
    flags_ |= closing | reset;
    drop_queue(reason);
    if (in_callback()) core_.cork().clear();
    finish(reason);
}

void StreamTransport::finish(std::error_code reason) {
    if (has(finishing)) return;
    flags_ |= closing | finishing;
    flags_ &= ~lingering;
    note_room();
    if (reason) extras().reason = reason;
    core_.finish_later(*this);
}

void StreamTransport::on_finish() {
    drop_queue(end_reason());
    if (extras_) {
        core_.timers().cancel(*extras_);
        fail_drain_waiters(end_reason());
    }
    std::exception_ptr fatal;
    try {
        if (!has(unannounced)) protocol_->connection_lost(reason());
    } catch (...) {
        fatal = reported("connection_lost");
    }
    protocol_.reset();
    channel().close(fd_, has(reset));
    core_.remove_source(token_);
    if (server_) server_->remove_connection(server_link);
    delete this;
    if (fatal) std::rethrow_exception(fatal);
}

void StreamTransport::tell_draining() {
    if (!has(closing)) guarded("draining", [&] { protocol_->draining(*this); });
}

void StreamTransport::on_loop_closing() {
    abort(Errc::aborted);
}

void StreamTransport::finish_or_linger() {
    const Linger linger = extras_ ? extras_->linger : Linger{};
    if (is_pipe()) return finish({});
    const bool wanted = linger.mode == Linger::Mode::always ||
                        (linger.mode == Linger::Mode::unread && has(readable));
    if (!wanted || has(eof_seen | write_broken) || !core_.kernel().owns(fd_)) return finish({});
    if (!has(eof_sent)) (void)channel().shutdown_write(fd_);
    flags_ |= lingering | eof_sent;
    extras().idle_timeout = Duration(0);
    arm(extras(), core_.deadline_in(linger.timeout));
    // In a turn of its own: the loop's buffer may be in the hands of another connection's callback.
    if (has(readable)) queue_again();
}

void StreamTransport::discard_input() {
    const MutableBytes buffer = core_.receive_buffer().room();
    Extras& extra = extras();
    for (Share share(core_); has(readable);) {
        const Sys got = channel().recv(fd_, buffer.data(), buffer.size());
        if (!got.ok() && got.would_block()) {
            flags_ &= ~readable;
            // What looked like unread input was none.
            if (extra.linger.mode == Linger::Mode::unread && extra.discarded == 0) finish({});
            return;
        }
        // The peer's FIN, its RST, or more than it is worth: what we sent has arrived or never
        // will.
        if (!got.ok() || got.count() == 0) return finish({});
        extra.discarded += got.count();
        if (extra.discarded > extra.linger.bytes) return finish({});
        if (!share.spend(got.count())) return queue_again();
    }
}

// --- The rest ---

/// For `when`, or the limit of a close that comes first.
void StreamTransport::arm(Extras& extra, TimePoint when) {
    core_.arm(extra, std::min(when, extra.close_limit));
}

void StreamTransport::on_timer(Extras& extra) {
    if (has(lingering)) return finish({});
    if (has(finishing)) return;
    const TimePoint now = core_.now();
    if (extra.close_limit <= now) return abort(std::make_error_code(std::errc::timed_out));
    // Activity only stores its time; the timer finds out here whether there was any.
    if (extra.activity.linked()) return arm(extra, add_saturated(now, extra.idle_timeout));
    const TimePoint due = add_saturated(extra.activity.at, extra.idle_timeout);
    if (due > now) return arm(extra, due);
    // With very many events its own may be among those that the next turn is told of.
    if (core_.more_events() && ++extra.put_off < most_put_off) return core_.arm(extra, due);
    extra.put_off = 0;
    // Nobody is left to be asked: the peer does not take what was written before `close`.
    if (has(closing)) return abort(std::make_error_code(std::errc::timed_out));
    core_.note_activity(extra.activity);
    arm(extra, add_saturated(now, extra.idle_timeout));
    if (has(unannounced)) return;
    guarded("idle_timeout", [&] { protocol_->idle_timeout(*this); });
}

void StreamTransport::set_idle_timeout(Duration timeout) {
    if (has(lingering | finishing) || (!extras_ && timeout <= Duration::zero())) return;
    Extras& extra = extras();
    extra.idle_timeout = timeout;
    core_.note_activity(extra.activity);
    if (timeout <= Duration::zero() && extra.close_limit == TimePoint::max()) {
        core_.timers().cancel(extra);
    } else {
        if (timeout <= Duration::zero()) extra.idle_timeout = Duration::max();
        arm(extra, core_.deadline_in(extra.idle_timeout));
    }
}

void StreamTransport::set_linger(Linger linger) {
    extras().linger = linger;
}

Address StreamTransport::local_address() const {
    Address address;
    if (kind_ < StreamKind::memory) (void)core_.kernel().local_address(fd_, address);
    return address;
}

Address StreamTransport::peer_address() const {
    if (peer_size_ == 0) return extras_ ? extras_->peer : Address();
    Address address;
    std::memcpy(address.data(), peer_.data(), peer_size_);
    address.set_size(peer_size_);
    return address;
}

std::optional<Credentials> StreamTransport::peer_credentials() const {
    Credentials credentials;
    if (kind_ != StreamKind::unix_socket || !core_.kernel().peer_credentials(fd_, credentials).ok())
        return {};
    return credentials;
}

Source::Registration StreamTransport::registration() const noexcept {
    return {kind_ == StreamKind::memory ? -1 : fd_, Interest::stream};
}

} // namespace weft::detail

namespace weft {

void Transport::write_all(std::initializer_list<std::string_view> pieces) {
    constexpr std::size_t few = 16;
    Bytes some[few];
    if (pieces.size() <= few) {
        std::transform(pieces.begin(), pieces.end(), some,
                       [](std::string_view piece) { return bytes_of(piece); });
        return write_all(std::span<const Bytes>(some, pieces.size()));
    }
    std::vector<Bytes> all;
    for (const std::string_view piece : pieces)
        all.push_back(bytes_of(piece));
    write_all(std::span<const Bytes>(all));
}

Transport* TransportRef::get() const noexcept {
    if (!loop_ || loop_->loop() == nullptr) return nullptr;
    detail::Source* source = detail::core_of(*loop_->loop()).sources().find(token_);
    return source ? source->as_transport() : nullptr;
}

} // namespace weft
