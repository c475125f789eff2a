// Two stream transports whose bytes never leave the process.

#include "../stream/stream_transport.hpp"

#include <weft/reactor/buffer_pool.hpp>
#include <weft/transports/connect/connect.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/uio.h>
#include <utility>

namespace weft {
namespace detail {
namespace {

/// The channel of a pair: end 0 and end 1 stand where descriptors stand elsewhere. Goes with the
/// second close.
class MemoryPair final : public ByteChannel {
public:
    explicit MemoryPair(LoopCore& core) noexcept : core_(core) {}
    void set_token(int end, Token token) noexcept { ends_[end].token = token; }

    Sys recv(int fd, void* data, std::size_t size) noexcept override {
        End& end = ends_[fd];
        const std::size_t count = std::min(size, end.size());
        if (count == 0) {
            if (end.reset) return Sys::fail(ECONNRESET);
            return end.ended ? Sys(0) : Sys::fail(EAGAIN);
        }
        const bool was_full = end.size() == capacity;
        std::memcpy(data, end.inbox.data() + end.from, count);
        end.from += count;
        if (end.size() == 0) end.empty();
        if (was_full) tell(other(fd), ready::writable);
        return Sys(static_cast<std::int64_t>(count));
    }

    Sys send(int fd, const void* data, std::size_t size) noexcept override {
        const iovec piece{const_cast<void*>(data), size};
        return sendv(fd, &piece, 1);
    }

    Sys sendv(int fd, const iovec* pieces, std::size_t count) noexcept override {
        End& peer = other(fd);
        if (peer.closed || peer.ended) return Sys::fail(ends_[fd].reset ? ECONNRESET : EPIPE);
        const bool was_empty = peer.size() == 0;
        std::size_t sent = 0;
        std::size_t offered = 0;
        for (std::size_t i = 0; i < count; ++i) {
            offered += pieces[i].iov_len;
            const std::size_t part = std::min(pieces[i].iov_len, capacity - peer.size());
            if (part == 0) continue;
            if (peer.inbox.empty()) {
                try {
                    peer.inbox = core_.blocks().take();
                } catch (const std::bad_alloc&) {
                    return Sys::fail(ENOMEM);
                }
            }
            std::memcpy(peer.room_for(part), pieces[i].iov_base, part);
            peer.to += part;
            sent += part;
        }
        if (was_empty && sent != 0) tell(peer, ready::readable);
        if (sent == 0 && offered != 0) return Sys::fail(EAGAIN);
        return Sys(static_cast<std::int64_t>(sent));
    }

    Sys shutdown_write(int fd) noexcept override {
        End& peer = other(fd);
        if (!peer.ended) {
            peer.ended = true;
            tell(peer, ready::readable | ready::read_hangup);
        }
        return 0;
    }

    void close(int fd, bool reset) noexcept override {
        End& end = ends_[fd];
        End& peer = other(fd);
        // As in TCP: closing with unread input resets the connection. (A transport that lingers has
        // read it before.)
        const bool lost = reset || end.size() != 0;
        end.closed = true;
        end.empty();
        if (peer.closed) {
            delete this;
            return;
        }
        peer.ended = true;
        peer.reset = peer.reset || lost;
        tell(peer,
             ready::readable | ready::read_hangup | ready::hangup | (lost ? ready::error : 0U));
    }

private:
    static constexpr std::size_t capacity = BlockPool::block_size;
    struct End {
        std::size_t size() const noexcept { return to - from; }
        void empty() noexcept {
            inbox = {};
            from = to = 0;
        }
        /// Behind what is there, which is moved to the front if need be: seldom, only where a
        /// reader did not take everything.
        std::byte* room_for(std::size_t count) noexcept {
            std::byte* const start = inbox.writable().data();
            if (capacity - to < count) {
                std::memmove(start, start + from, size());
                to -= std::exchange(from, 0);
            }
            return start + to;
        }

        Token token = 0;
        Buffer inbox; // a block of the loop's while anything is in it
        std::size_t from = 0;
        std::size_t to = 0;
        bool ended = false; // the other end sends no more
        bool reset = false;
        bool closed = false;
    };
    ~MemoryPair() = default;
    End& other(int fd) noexcept { return ends_[1 - fd]; }
    void tell(End& end, std::uint32_t ready) noexcept {
        if (!end.closed) core_.again(end.token, ready);
    }

    LoopCore& core_;
    End ends_[2];
};

} // namespace
} // namespace detail

std::pair<TransportRef, TransportRef> connected_pair(Loop& loop, std::unique_ptr<Protocol> first,
                                                     std::unique_ptr<Protocol> second) {
    detail::LoopCore& core = detail::core_of(loop);
    core.check_usable("connected_pair");
    if (!first || !second) throw UsageError("connected_pair: a protocol is null");
    auto* pair = new detail::MemoryPair(core);
    const auto make = [&](int end, std::unique_ptr<Protocol> protocol) {
        auto* transport =
            new detail::StreamTransport(core, end, detail::StreamKind::memory, Address(), pair);
        const Token token = core.sources().add(*transport);
        pair->set_token(end, token);
        transport->open_later(token, std::move(protocol));
        return transport->ref();
    };
    auto a = make(0, std::move(first));
    auto b = make(1, std::move(second));
    return {std::move(a), std::move(b)};
}

} // namespace weft
