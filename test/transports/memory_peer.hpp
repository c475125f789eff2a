#pragma once

#include <weft/transports/connect/connect.hpp>

#include <cerrno>
#include <memory>
#include <string_view>

namespace weft::test {

/// The other end of a pair in memory, used as a bare socket is: nothing is read but by `receive`.
/// It shares the loop with the end that is tested, and is announced with it.
class MemoryPeer : public std::enable_shared_from_this<MemoryPeer> {
public:
    std::unique_ptr<Protocol> protocol() { return std::make_unique<End>(shared_from_this()); }

    Sys send(std::string_view text) {
        if (transport_ == nullptr || transport_->write_error()) return Sys::fail(EPIPE);
        if (transport_->write_buffer_size() != 0) return Sys::fail(EAGAIN);
        transport_->write(text);
        return Sys(static_cast<std::int64_t>(text.size()));
    }
    void finish_sending() {
        if (transport_ != nullptr) transport_->write_eof();
    }
    /// As the system closes a socket: with a reset, if asked for or if input was not read.
    void close(bool reset) {
        if (transport_ == nullptr) return;
        std::byte one;
        const bool unread = transport_->try_read({&one, 1}).state == ReadResult::State::data;
        if (reset || unread) {
            transport_->abort();
        } else {
            transport_->close();
        }
        transport_ = nullptr;
    }
    Sys receive(char* data, std::size_t size) {
        if (transport_ == nullptr) return Sys::fail(lost_ ? lost_.value() : ENOTCONN);
        const ReadResult got = transport_->try_read(std::as_writable_bytes(std::span(data, size)));
        switch (got.state) {
        case ReadResult::State::data:
            return Sys(static_cast<std::int64_t>(got.size));
        case ReadResult::State::would_block:
            return Sys::fail(EAGAIN);
        case ReadResult::State::eof:
            return 0;
        case ReadResult::State::failed:
            break;
        }
        return Sys::fail(transport_->read_error().value());
    }

private:
    class End final : public PullProtocol {
    public:
        explicit End(std::shared_ptr<MemoryPeer> peer) noexcept : peer_(std::move(peer)) {}
        void connection_made(Transport& transport) override {
            transport.set_linger({.mode = Linger::Mode::never});
            peer_->transport_ = &transport;
        }
        void read_ready() override {}
        void connection_lost(std::error_code reason) override {
            peer_->lost_ = reason;
            peer_->transport_ = nullptr;
        }

    private:
        std::shared_ptr<MemoryPeer> peer_;
    };

    Transport* transport_ = nullptr;
    std::error_code lost_;
};

} // namespace weft::test
