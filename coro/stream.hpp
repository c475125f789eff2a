#pragma once

#include <weft/coro/cancel_scope.hpp>
#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/loop.hpp>

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace weft::coro {

/// The stream ended before as much had come as was asked for: `Errc::incomplete`. What came is in
/// `partial`, and read.
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
class StreamState;
}

/// A connection as straight-line code: reads return when there is something, writes when there is
/// room. A stream stands over any stream transport (TCP, Unix sockets, memory, pipes) and owns the
/// connection: destroying it closes, what was written still leaves. For coroutines of the
/// connection's loop; one may read while another one writes, but two readers are a `UsageError`.
///
/// Every call that may suspend throws `Cancelled` when it is cancelled, before it has taken
/// anything: a cancelled read loses no byte. Each takes a deadline of its own besides those of the
/// scopes around it, and throws `TimeoutError` then, likewise. A lost connection throws
/// `std::system_error` with its reason, from every later read once what had come was read, and from
/// every later write. Calls that do not have to wait do not suspend, but let others run now and
/// then.
class Stream {
public:
    Stream() noexcept;
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) noexcept;
    ~Stream();
    /// Takes over a transport from the protocol that has it, which is destroyed after the callback
    /// under way, without a `connection_lost`. Input that it has given back (`Transport::unread`)
    /// comes first.
    explicit Stream(Transport& transport);

    // Reading.
    /// What has come, at most `into.size()` bytes; 0 at the end of the stream, and for an empty
    /// buffer. Straight into the caller's memory.
    std::size_t read_some(MutableBytes into, Deadline deadline = {});
    /// Fills `into`. `IncompleteRead` if the stream ends before.
    void read_exactly(MutableBytes into, Deadline deadline = {});
    std::string read_exactly(std::size_t size, Deadline deadline = {});
    /// Up to the first `separator`, which is included. Valid until the next read. `IncompleteRead`
    /// if the stream ends before, `LimitOverrun` if it would be longer than `limit()`. An empty
    /// separator is a `UsageError`.
    std::string_view read_until(std::string_view separator, Deadline deadline = {});
    /// The same for several: the one that ends first.
    std::string_view read_until(std::initializer_list<std::string_view> separators,
                                Deadline deadline = {});
    /// A line without its "\n" or "\r\n"; the last one needs none. Empty at the end of the stream.
    /// Valid until the next read. `LimitOverrun` if it is longer than `limit()`.
    std::optional<std::string_view> read_line(Deadline deadline = {});
    /// Everything up to the end of the stream. `LimitOverrun` if that is more than `most`; then
    /// what had come is still to be read.
    std::string read_to_end(std::size_t most = SIZE_MAX, Deadline deadline = {});
    /// At least `size` bytes without taking them, fewer if the stream ends before. Valid until the
    /// next read.
    Bytes peek(std::size_t size = 1, Deadline deadline = {});
    /// Takes `size` bytes that `peek` has shown.
    void skip(std::size_t size);
    /// Whether the end of the stream was met, and everything before it read.
    bool at_end() const noexcept;
    /// The longest that `read_until` and `read_line` may return; 64 KiB unless set.
    std::size_t limit() const;
    void set_limit(std::size_t bytes);

    // Writing.
    /// Sends `data`. Small writes gather, and leave when the coroutine suspends on anything, or 16
    /// KiB are there. Suspends while the transport's write buffer is above its high-water mark,
    /// before anything of `data` is taken; a piece that is longer than 256 KiB may have been sent
    /// in part when it is cancelled. `UsageError` after `write_eof`.
    void write(Bytes data, Deadline deadline = {});
    void write(std::string_view text, Deadline deadline = {}) { write(bytes_of(text), deadline); }
    /// Several pieces as one, with one system call where possible.
    void write_all(std::span<const Bytes> pieces, Deadline deadline = {});
    void write_all(std::initializer_list<std::string_view> pieces, Deadline deadline = {});
    /// Sends what has gathered, now. Does not suspend.
    void flush();
    /// Waits until the write buffer has sunk to the low-water mark; at once if writing need not
    /// wait.
    void drain(Deadline deadline = {});
    /// Sends up to `count` bytes of the open file from `offset` on, in its place among the writes,
    /// and waits until they have left; how many. See `Transport::send_file`.
    std::uint64_t send_file(int file, std::uint64_t offset = 0,
                            std::optional<std::uint64_t> count = {});
    /// Ends the sending direction behind what was written. Does not suspend.
    void write_eof();

    // Ending.
    /// Closes: what was written still leaves, and nothing can be read or written any more. Twice is
    /// once. Does not suspend.
    void close() noexcept;
    /// Drops what was written; a TCP peer sees RST. Does not suspend.
    void abort() noexcept;
    /// Waits until the connection is gone, also with unread data. Never throws the reason of its
    /// loss.
    void wait_closed(Deadline deadline = {});
    bool is_open() const noexcept;

    /// Hands the connection over to a protocol, whose `connection_made` is called now; what was
    /// received and not read comes to it first. The stream is empty afterwards. A reader that waits
    /// is a `UsageError`.
    TransportRef release(std::unique_ptr<Protocol> protocol);

    /// The transport, null once the connection is gone.
    Transport* transport() const noexcept;
    Address local_address() const;
    Address peer_address() const;

    /// For the library.
    explicit Stream(std::unique_ptr<detail::StreamState> state) noexcept;
    detail::StreamState* state() const noexcept { return state_.get(); }

private:
    detail::StreamState& state(const char* what) const;
    void write_in_slices(Bytes data, Deadline deadline);
    template<class Room>
    void read_whole(const char* what, std::size_t size, Deadline deadline, Room room);
    std::unique_ptr<detail::StreamState> state_;
};

} // namespace weft::coro
