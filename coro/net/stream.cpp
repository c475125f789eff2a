#include "stream_state.hpp"

#include <weft/coro/tasks/await.hpp>
#include <weft/transports/layer/layered_transport.hpp>

#include <algorithm>
#include <cstring>

namespace weft::coro {
namespace {

// Memory is taken for so much of what is to be read, and for twice of what has come.
constexpr std::size_t first_room = 256 * 1024;

/// Where in `text` the match lies that ends first: its end, 0 if there is none. No match can begin
/// before `scanned`, less the longest separator.
std::size_t find_end(std::string_view text, std::span<const std::string_view> separators,
                     std::size_t scanned) noexcept {
    std::size_t first = 0;
    for (const std::string_view separator : separators) {
        const std::size_t from = scanned >= separator.size() ? scanned - separator.size() + 1 : 0;
        const std::size_t at =
            separator.size() == 1 ? text.find(separator[0], from) : text.find(separator, from);
        if (at == text.npos) continue;
        first = at + separator.size();
        text = text.substr(0, first - 1); // the next one has to end before that
    }
    return first;
}

} // namespace

Stream::Stream() noexcept = default;
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;
Stream::Stream(std::unique_ptr<detail::StreamState> state) noexcept : state_(state.release()) {}
Stream::Stream(Transport& transport) {
    auto state = std::make_unique<detail::StreamState>();
    state->take_over(transport);
    state_.reset(state.release());
}

void Stream::End::operator()(detail::StreamState* state) const noexcept {
    state->dismiss();
}

void Stream::throw_empty(const char* what) {
    throw UsageError(std::string(what) +
                     ": the stream is empty (default-constructed, moved from or released)");
}

// --- Reading ---

// What an echo does over and over: there was nothing more, and something comes. One way through,
// without a branch to another wait, is what the compiler makes the best of.
Buffer Stream::read(Deadline deadline) {
    Buffer data;
    detail::StreamState& state = this->state("read");
    detail::Coroutine& self = detail::running("read");
    if (state.quiet() && state.reads_on() && deadline.never() && self.scheduler.goes_on(self))
        [[likely]] {
        const detail::StreamState::Reading reading(state, self, "read");
        state.wait_for_input(self, "read");
        if (state.transport != nullptr &&
            state.receive_block(self, data) == ReadResult::State::data) [[likely]]
            return data; // what else it met it meets again
    }
    read_otherwise(state, self, data, deadline);
    return data;
}

[[gnu::noinline]] void Stream::read_otherwise(detail::StreamState& state, detail::Coroutine& self,
                                              Buffer& data, Deadline deadline) {
    const detail::StreamState::Reading reading(state, self, "read");
    if (state.buffered() != 0) {
        self.scheduler.checkpoint_in_memory(self);
        data = state.take_all(self);
        return;
    }
    self.scheduler.checkpoint_read(self);
    state.receive_block_later(self, data, "read", deadline.at());
}

std::size_t Stream::read_some(MutableBytes into, Deadline deadline) {
    detail::StreamState& state = this->state("read_some");
    detail::Coroutine& self = detail::running("read_some");
    state.check_no_reader("read_some");
    auto found = ReadResult::State::failed; // or nothing tried; the next read finds it again
    if (self.scheduler.goes_on(self)) [[likely]] {
        const ReadResult got = state.receive_now(into);
        self.scheduler.charge(self, got.size);
        if (got.state == ReadResult::State::data) return got.size;
        found = got.state;
    }
    const detail::StreamState::Reading reading(state, self, "read_some");
    if (found == ReadResult::State::would_block) [[likely]]
        return state.receive_later(self, into, "read_some", deadline.at());
    if (state.buffered() != 0 && !into.empty()) {
        self.scheduler.checkpoint_in_memory(self);
        return state.take(into);
    }
    self.scheduler.checkpoint(self);
    if (into.empty()) return 0;
    return state.receive(self, into, "read_some", deadline.at());
}

void Stream::read_exactly(MutableBytes into, Deadline deadline) {
    read_whole("read_exactly", into.size(), deadline, [&](std::size_t) { return into; });
}

std::string Stream::read_exactly(std::size_t size, Deadline deadline) {
    std::string data;
    if (size > data.max_size())
        throw UsageError("read_exactly: " + std::to_string(size) +
                         " bytes are more than there can be");
    // Grows with what has come, not with what was asked for, which a peer may have chosen.
    read_whole("read_exactly", size, deadline, [&](std::size_t have) {
        data.resize(std::min(size, std::max(2 * have, first_room)));
        return MutableBytes(reinterpret_cast<std::byte*>(data.data()), data.size());
    });
    return data;
}

/// Reads `size` bytes into the memory that `room(have)` names, for the `have` that are in it and
/// some more.
template<class Room>
void Stream::read_whole(const char* what, std::size_t size, Deadline deadline, Room room) {
    detail::StreamState& state = this->state(what);
    detail::Coroutine& self = detail::running(what);
    const detail::StreamState::Reading reading(state, self, what);
    self.scheduler.checkpoint_in_memory(self);
    MutableBytes into = room(0);
    std::size_t have = state.take(into);
    bool ended = false;
    try {
        while (have < size && !ended) {
            if (have == into.size()) into = room(have);
            self.scheduler.checkpoint_read(self);
            const std::size_t got = state.receive(self, into.subspan(have), what, deadline.at());
            self.scheduler.charge(self, got);
            have += got;
            ended = got == 0;
        }
    } catch (...) { // nothing was read
        state.put_back(into.first(have));
        throw;
    }
    if (have < size) {
        throw IncompleteRead(std::string(what) + ": " + std::to_string(size) +
                                 " bytes were asked for and the stream ended after " +
                                 std::to_string(have),
                             std::string(text_of(into.first(have))));
    }
}

std::string_view Stream::read_until(std::string_view separator, Deadline deadline) {
    return read_until({separator}, deadline);
}

std::string_view Stream::read_until(std::initializer_list<std::string_view> separators,
                                    Deadline deadline) {
    detail::StreamState& state = this->state("read_until");
    detail::Coroutine& self = detail::running("read_until");
    const detail::StreamState::Reading reading(state, self, "read_until");
    if (separators.size() == 0) throw UsageError("read_until: no separator was given");
    for (const std::string_view separator : separators)
        if (separator.empty()) throw UsageError("read_until: a separator is empty");
    self.scheduler.checkpoint_in_memory(self);
    const std::span<const std::string_view> wanted(separators.begin(), separators.size());
    for (std::size_t scanned = 0;;) {
        const std::string_view text = text_of(state.input());
        const std::size_t end = find_end(text, wanted, scanned);
        if (end > state.limit || (end == 0 && text.size() >= state.limit))
            throw LimitOverrun("read_until: no separator within " + std::to_string(state.limit) +
                                   " bytes",
                               text.size());
        if (end != 0) {
            state.consume(end);
            return text.substr(0, end);
        }
        scanned = text.size();
        if (state.fill(self, "read_until", deadline.at())) continue;
        std::string partial(text_of(state.input()));
        state.consume(partial.size());
        std::string what = "read_until: the stream ended after " + std::to_string(partial.size()) +
                           " bytes without a separator";
        throw IncompleteRead(std::move(what), std::move(partial));
    }
}

std::optional<std::string_view> Stream::read_line(Deadline deadline) {
    detail::StreamState& state = this->state("read_line");
    detail::Coroutine& self = detail::running("read_line");
    const detail::StreamState::Reading reading(state, self, "read_line");
    self.scheduler.checkpoint_in_memory(self);
    state.line_cut = false;
    const auto without_end = [](std::string_view line) {
        if (line.ends_with('\n')) line.remove_suffix(1);
        if (line.ends_with('\r')) line.remove_suffix(1);
        return line;
    };
    for (std::size_t scanned = 0;;) {
        const std::string_view text = text_of(state.input());
        const void* found = text.size() == scanned
                                ? nullptr
                                : std::memchr(text.data() + scanned, '\n', text.size() - scanned);
        if (found != nullptr) {
            const auto size =
                static_cast<std::size_t>(static_cast<const char*>(found) - text.data()) + 1;
            if (size <= state.limit) [[likely]] {
                state.consume(size);
                return without_end(text.substr(0, size));
            }
        }
        if (found != nullptr || text.size() >= state.limit)
            throw LimitOverrun("read_line: the line is longer than " + std::to_string(state.limit) +
                                   " bytes",
                               text.size());
        scanned = text.size();
        if (state.fill(self, "read_line", deadline.at())) continue;
        if (state.buffered() == 0) return {};
        state.line_cut = true;
        const std::string_view last = text_of(state.input());
        state.consume(last.size());
        return last;
    }
}

std::string Stream::read_to_end(std::size_t most, Deadline deadline) {
    detail::StreamState& state = this->state("read_to_end");
    detail::Coroutine& self = detail::running("read_to_end");
    const detail::StreamState::Reading reading(state, self, "read_to_end");
    self.scheduler.checkpoint_in_memory(self);
    do {
        if (state.buffered() > most)
            throw LimitOverrun("read_to_end: more than " + std::to_string(most) +
                                   " bytes have come",
                               state.buffered());
    } while (state.fill(self, "read_to_end", deadline.at()));
    std::string all(text_of(state.input()));
    state.consume(all.size());
    return all;
}

Bytes Stream::peek(std::size_t size, Deadline deadline) {
    detail::StreamState& state = this->state("peek");
    detail::Coroutine& self = detail::running("peek");
    const detail::StreamState::Reading reading(state, self, "peek");
    self.scheduler.checkpoint_in_memory(self);
    while (state.buffered() < size && state.fill(self, "peek", deadline.at())) {
    }
    return state.input();
}

void Stream::skip(std::size_t size) {
    detail::StreamState& state = this->state("skip");
    state.check_no_reader("skip");
    if (size > state.buffered())
        throw UsageError("skip: " + std::to_string(size) + " bytes are more than the " +
                         std::to_string(state.buffered()) + " that were shown");
    state.consume(size);
}

void Stream::discard(std::uint64_t size, Deadline deadline) {
    detail::StreamState& state = this->state("discard");
    detail::Coroutine& self = detail::running("discard");
    const detail::StreamState::Reading reading(state, self, "discard");
    self.scheduler.checkpoint_in_memory(self);
    for (std::uint64_t left = size; left != 0;) {
        if (state.buffered() == 0 && !state.fill(self, "discard", deadline.at()))
            throw IncompleteRead("discard: " + std::to_string(size) +
                                     " bytes were to be dropped and the stream ended after " +
                                     std::to_string(size - left),
                                 {});
        const std::uint64_t some = std::min<std::uint64_t>(left, state.buffered());
        state.consume(static_cast<std::size_t>(some));
        left -= some;
    }
}

Buffer Stream::keep(Bytes part) const {
    return state("keep").keep(part);
}

bool Stream::line_complete() const noexcept {
    return state_ && !state_->line_cut;
}
bool Stream::at_end() const noexcept {
    return state_ && state_->eof && state_->buffered() == 0;
}
std::size_t Stream::limit() const {
    return state("limit").limit;
}
void Stream::set_limit(std::size_t bytes) {
    if (bytes == 0) throw UsageError("set_limit: a limit of 0 bytes lets nothing pass");
    state("set_limit").limit = static_cast<std::uint32_t>(std::min<std::size_t>(bytes, UINT32_MAX));
}

// --- Ending ---

void Stream::close() noexcept {
    if (!state_ || state_->closed) return;
    if (state_->transport != nullptr) state_->transport->close();
    state_->end();
}

void Stream::abort() noexcept {
    if (!state_) return;
    if (state_->transport != nullptr) state_->transport->abort();
    if (!state_->closed) state_->end();
}

void Stream::wait_closed(Deadline deadline) {
    detail::StreamState& state = this->state("wait_closed");
    detail::Coroutine& self = detail::running("wait_closed");
    const detail::StreamState::Use use(state);
    self.scheduler.checkpoint(self);
    state.wait_closed(self, deadline.at());
}

bool Stream::is_open() const noexcept {
    return state_ && !state_->closed && state_->transport != nullptr &&
           !state_->transport->is_closing() && !state_->transport->write_error();
}

void Stream::add_layer(std::unique_ptr<LayeredTransport> layer, Deadline deadline) {
    detail::StreamState& state = this->state("add_layer");
    detail::Coroutine& self = detail::running("add_layer");
    const detail::StreamState::Reading reading(state, self, "add_layer");
    if (!layer) throw UsageError("add_layer: the layer is null");
    Transport& transport = state.writable("add_layer");
    weft::detail::core_of(transport.loop()).cork().flush();
    transport.unread(state.input());
    state.consume(state.buffered());
    Future<TransportRef> opened = layer->when_open(transport.loop());
    try {
        state.connected(weft::add_layer(transport, std::move(layer)));
        detail::wait_for_future(opened.state_ref().get(), true, deadline.at());
        (void)opened.take();
    } catch (...) {
        abort();
        throw;
    }
}

TransportRef Stream::release(std::unique_ptr<Protocol> protocol) {
    detail::StreamState& state = this->state("release");
    state.check_no_reader("release");
    if (!protocol) throw UsageError("release: the protocol is null");
    Transport& transport = state.connection("release");
    const bool paused = state.writing_paused;
    weft::detail::core_of(transport.loop()).cork().flush();
    if (state.buffered() != 0) transport.unread(state.input());
    const TransportRef ref = transport.ref();
    Protocol& next = *protocol;
    // The old one may be running: it is what resumes a reader.
    transport.loop().call_soon([old = transport.set_protocol(std::move(protocol))] {});
    state.protocol->let_go();
    state.detached();
    state_.reset();
    try {
        next.connection_made(transport);
        // It has not heard of what was written before it came.
        if (paused && &transport == ref.get()) next.pause_writing();
    } catch (...) {
        if (Transport* still = ref.get()) still->abort(Errc::callback_threw);
        throw;
    }
    return ref;
}

Transport* Stream::transport() const noexcept {
    return state_ ? state_->transport : nullptr;
}
Address Stream::local_address() const {
    Transport* transport = state("local_address").transport;
    return transport != nullptr ? transport->local_address() : Address();
}
Address Stream::peer_address() const {
    Transport* transport = state("peer_address").transport;
    return transport != nullptr ? transport->peer_address() : Address();
}

} // namespace weft::coro
