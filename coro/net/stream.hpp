#pragma once

#include <weft/coro/tasks/cancel_scope.hpp>
#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/function.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/reactor/result.hpp>

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace weft {
class LayeredTransport;
}

#pragma GCC visibility push(default)

namespace weft::coro {

/// The stream ended before as much had come as was asked for: `Errc::incomplete`. What came is in
/// `partial`, and read; it is empty if the stream ended cleanly, between two things that were read.
struct IncompleteRead : std::system_error {
    IncompleteRead(std::string what, std::string data)
        : std::system_error(make_error_code(Errc::incomplete), what), partial(std::move(data)) {}
    std::string partial;
};

/// No separator within the limit: `Errc::too_long`. Nothing was taken out of the stream.
struct LimitOverrun : std::system_error {
    LimitOverrun(std::string what, std::size_t bytes)
        : std::system_error(make_error_code(Errc::too_long), what), buffered(bytes) {}
    std::size_t buffered; ///< bytes that have come and wait to be read
};

namespace detail {
class Coroutine;
class StreamState;
} // namespace detail

/// A connection as straight-line code: reads return when there is something, writes when there is
/// room. A stream stands over any stream transport (TCP, Unix sockets, memory, pipes) and owns the
/// connection: destroying it closes, what was written still leaves. For coroutines of the
/// connection's loop. One may read while another one writes; a second reader is a `UsageError`.
///
/// Every function with a deadline may suspend, and throws when it is cancelled (`Cancelled`) or the
/// deadline comes (`TimeoutError`), besides the deadlines of the scopes around it. Then it has
/// taken nothing: no byte is lost and none is written, but for what `write` and `send_file` say of
/// themselves. A call that need not wait does not suspend, but lets others run now and then. All
/// other functions never suspend.
///
/// A lost connection throws `std::system_error` with its reason: from every read once what had come
/// was read, from every write, and from those that wait. After `close` they are a `UsageError`; for
/// those that wait while it is closed, or destroyed, a `std::system_error` with `Errc::closed`.
///
/// While a coroutine waits for input a stream holds no buffer, unless a part of what was asked for
/// has come.
class Stream {
public:
    /// An empty one, of which only moving, `is_open`, `at_end`, `close` and `abort` are defined.
    Stream() noexcept;
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) noexcept;
    ~Stream();
    /// Takes over a transport from the protocol that has it, in any of its callbacks or outside of
    /// them. That protocol hears nothing more, and is destroyed in the next turn. Input that it has
    /// given back (`Transport::unread`), also after this, comes first. Reading is resumed.
    explicit Stream(Transport& transport);

    // Reading.
    /// What has come, at most 64 KiB (256 KiB of a stream that fills those), in memory of its own
    /// that may be kept, changed and handed on; empty at the end of the stream: `while (Buffer data
    /// = peer.read()) peer.write(std::move(data));`. The way to read without an idea of how much
    /// will come: nothing is held while it waits, and nothing is copied on the way to another
    /// `write`.
    Buffer read(Deadline deadline = {});
    /// What has come, at most `into.size()` bytes; 0 at the end of the stream, and for an empty
    /// buffer. Straight into the caller's memory.
    std::size_t read_some(MutableBytes into, Deadline deadline = {});
    /// Fills `into`, straight from the connection. `IncompleteRead` if the stream ends before, with
    /// what came: nothing if it ended before the first byte. Any other exception leaves what came
    /// to be read again.
    void read_exactly(MutableBytes into, Deadline deadline = {});
    /// The same. Memory grows with what comes.
    std::string read_exactly(std::size_t size, Deadline deadline = {});
    /// Up to the first `separator`, which is included. Valid until the next read. `IncompleteRead`
    /// if the stream ends before, `LimitOverrun` if it would be longer than `limit()`; then nothing
    /// was taken. An empty separator is a `UsageError`.
    std::string_view read_until(std::string_view separator, Deadline deadline = {});
    /// The same for several: the one that ends first.
    std::string_view read_until(std::initializer_list<std::string_view> separators,
                                Deadline deadline = {});
    /// A line without its "\n" or "\r\n". Empty at the end of the stream. Valid until the next
    /// read. `LimitOverrun` if it is longer than `limit()`. The last line may come without its end:
    /// then the stream was cut inside it, or its writer saw no need for one, and `line_complete` is
    /// false; a server does nothing on the strength of half a command.
    std::optional<std::string_view> read_line(Deadline deadline = {});
    /// Whether the line that `read_line` returned last had its end.
    bool line_complete() const noexcept;
    /// Everything up to the end of the stream. `LimitOverrun` if that is more than `most`; then
    /// what had come is still to be read.
    std::string read_to_end(std::size_t most = SIZE_MAX, Deadline deadline = {});
    /// At least `size` bytes without taking them, fewer if the stream ends before; whatever more
    /// has come is shown as well. Valid until the next read.
    Bytes peek(std::size_t size = 1, Deadline deadline = {});
    /// Takes `size` bytes that `peek` has shown.
    void skip(std::size_t size);
    /// Drops the next `size` bytes, as they come. `IncompleteRead` if the stream ends before. What
    /// was dropped is gone, also when it is cancelled or the deadline comes.
    void discard(std::uint64_t size, Deadline deadline = {});
    /// An owner of `part` of what the last read has shown (`peek`, `read_until`, `read_line`), for
    /// whoever keeps it beyond the next. Without a copy where that saves one: of what is most of
    /// the memory that it would keep.
    Buffer keep(Bytes part) const;
    /// Whether the end of the stream was met, and everything before it read.
    bool at_end() const noexcept;
    /// The longest that `read_until` and `read_line` may return; 64 KiB unless set, at least 1.
    std::size_t limit() const;
    void set_limit(std::size_t bytes);

    // Writing.
    /// Sends `data`. Small writes gather, and leave when the coroutine suspends on anything, or 64
    /// KiB are there. Suspends while the transport's write buffer is above its high-water mark,
    /// before anything of `data` is taken; a piece that is longer than 64 KiB is sent out of the
    /// caller's memory, and it suspends after that, too, until the buffer has sunk to the low-water
    /// mark. It is taken as a whole, with no other write in between, also when it is cancelled
    /// then: what is left is copied and still leaves. `UsageError` after `write_eof`.
    void write(Bytes data, Deadline deadline = {});
    /// The same, without a copy: the connection keeps the buffer until it is sent. Suspends only
    /// before it is taken; if that is cancelled, the buffer is still the caller's.
    void write(Buffer&& data, Deadline deadline = {});
    void write(std::string_view text, Deadline deadline = {}) { write(bytes_of(text), deadline); }
    /// A string or a vector of bytes that is given away: `write(std::move(text))`.
    template<OwnedBytes T>
    void write(T&& data, Deadline deadline = {}) {
        write(Buffer(std::move(data)), deadline);
    }
    /// Several pieces as one, with one system call where possible. All of them or none are taken.
    void write_all(std::span<const Bytes> pieces, Deadline deadline = {});
    void write_all(std::initializer_list<std::string_view> pieces, Deadline deadline = {});
    /// Sends what has gathered, now.
    void flush();
    /// Sends what has gathered, and waits until the write buffer has sunk to the low-water mark; at
    /// once if writing need not wait. Any number may.
    void drain(Deadline deadline = {});
    /// Sends up to `count` bytes of the open file from `offset` on, in its place among the writes,
    /// and waits until they have left; how many. See `Transport::send_file`. Cancelling aborts the
    /// connection, whose peer has a part of the file then.
    std::uint64_t send_file(int file, std::uint64_t offset = 0,
                            std::optional<std::uint64_t> count = {}, Deadline deadline = {});
    /// Ends the sending direction behind what was written. Reading goes on. Twice is once.
    void write_eof();

    // Ending.
    /// Closes: what was written still leaves, and nothing can be read or written any more. Twice is
    /// once.
    void close() noexcept;
    /// Drops what was written; a TCP peer sees RST. Also after `close`.
    void abort() noexcept;
    /// Waits until the connection is gone, also with unread data: closed here, or reset by the
    /// peer. The end of the peer's direction alone is no end. Never throws the reason of its loss.
    void wait_closed(Deadline deadline = {});
    /// Neither closed, lost nor reset by the peer, as far as the kernel has told. The peer may have
    /// ended its direction.
    bool is_open() const noexcept;

    /// Puts a layer on the connection, as for TLS in the middle of a stream (STARTTLS): what was
    /// received and not read is its input, what was written has left below it, and everything that
    /// follows goes through it. Suspends until it is open; what it could not settle with the peer
    /// is thrown as the loss of the connection, and if it is cancelled the connection is aborted.
    /// While a coroutine reads it is a `UsageError`.
    void add_layer(std::unique_ptr<LayeredTransport> layer, Deadline deadline = {});
    /// Hands the connection over to a protocol, whose `connection_made` is called now; what was
    /// received and not read comes to it first, and so does the end of the stream. The stream is
    /// empty afterwards. While a coroutine reads it is a `UsageError`, and nothing has happened.
    /// Those who wait for room or the end hear that the connection is gone. What `connection_made`
    /// throws aborts the connection and is thrown here.
    TransportRef release(std::unique_ptr<Protocol> protocol);

    /// The transport, null once the connection is gone.
    Transport* transport() const noexcept;
    /// The names of both ends, empty once the connection is gone.
    Address local_address() const;
    Address peer_address() const;

    /// For the library.
    explicit Stream(std::unique_ptr<detail::StreamState> state) noexcept;
    detail::StreamState* state() const noexcept { return state_.get(); }

private:
    struct End {
        void operator()(detail::StreamState* state) const noexcept;
    };
    detail::StreamState& state(const char* what) const {
        if (!state_) [[unlikely]]
            throw_empty(what);
        return *state_;
    }
    [[noreturn, gnu::cold]] static void throw_empty(const char* what);
    void read_otherwise(detail::StreamState& state, detail::Coroutine& self, Buffer& data,
                        Deadline deadline);
    void write_otherwise(detail::StreamState& state, detail::Coroutine& self, Buffer& data,
                         Deadline deadline);
    template<class Room>
    void read_whole(const char* what, std::size_t size, Deadline deadline, Room room);
    std::unique_ptr<detail::StreamState, End> state_;
};

} // namespace weft::coro

#pragma GCC visibility pop
