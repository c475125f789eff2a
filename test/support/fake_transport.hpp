#pragma once

#include <weft/protocols/transport.hpp>
#include <weft/reactor/future.hpp>

#include <algorithm>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

namespace weft::test {

/// A transport without a kernel or a loop: what the test calls `receive` with is what arrives, what
/// is written is text to compare. It keeps the contract of `Transport`: no callback out of any of
/// its functions but `receive`, `receive_eof`, `turn` and `finish`, which stand for the loop.
class FakeTransport final : public Transport {
public:
    explicit FakeTransport(std::unique_ptr<Protocol> protocol) : protocol_(std::move(protocol)) {
        protocol_->connection_made(*this);
    }
    ~FakeTransport() {
        if (!lost) finish();
    }

    // What the test does in the loop's and the peer's place.

    /// Bytes arrive, as one chunk.
    void receive(std::string_view data) {
        arrived_.emplace_back(data);
        turn();
    }
    void receive_eof() {
        eof_ = true;
        turn();
    }
    /// Delivers what may be delivered, as the loop's next turn would.
    void turn() {
        while (!arrived_.empty() && reading_ && !closing) {
            if (protocol_->reading() == Reading::pull) {
                protocol_->read_ready();
                break;
            }
            // A block of its own per chunk, so that a view kept too long is found by the sanitizer.
            const std::string chunk = std::move(arrived_.front());
            arrived_.pop_front();
            const std::vector<char> block(chunk.begin(), chunk.end());
            ++deliveries;
            deliver(bytes_of({block.data(), block.size()}));
        }
        if (arrived_.empty() && eof_ && !eof_delivered_ && reading_ && !closing) {
            eof_delivered_ = true;
            if (!protocol_->eof_received()) close();
        }
    }
    /// The closing phase: the protocol's last callback.
    void finish() {
        closing = true;
        lost = true;
        protocol_->connection_lost(reason);
    }

    // Transport

    using Transport::write;
    void write(Bytes data) override { write_all(std::span<const Bytes>(&data, 1)); }
    void write(Buffer&& data) override {
        const Buffer owned = std::move(data);
        write(owned.bytes());
    }
    using Transport::write_all;
    void write_all(std::span<const Bytes> pieces) override {
        if (closing) return;
        ++writes;
        for (Bytes piece : pieces)
            written += text_of(piece);
    }
    Future<std::uint64_t> send_file(int, std::uint64_t, std::optional<std::uint64_t>) override {
        throw std::logic_error("FakeTransport has no loop to send files in");
    }
    std::error_code write_error() const noexcept override { return {}; }
    void write_eof() override {}
    void close(std::error_code = {}) override { closing = true; }
    void close_within(Duration) override { closing = true; }
    void abort(std::error_code why) override {
        closing = aborted = true;
        reason = why;
    }
    bool is_closing() const noexcept override { return closing; }
    void pause_reading() override { reading_ = false; }
    void resume_reading() override { reading_ = true; }
    bool is_reading() const noexcept override { return reading_ && !closing; }
    std::error_code read_error() const noexcept override { return {}; }
    ReadResult try_read(MutableBytes into) override {
        if (arrived_.empty()) {
            return {eof_ ? ReadResult::State::eof : ReadResult::State::would_block};
        }
        std::string& first = arrived_.front();
        const std::size_t size = std::min(first.size(), into.size());
        std::copy_n(bytes_of(first).begin(), size, into.begin());
        first.erase(0, size);
        if (first.empty()) arrived_.pop_front();
        return {ReadResult::State::data, size};
    }
    void unread(Bytes data) override {
        if (!data.empty() && !closing) arrived_.emplace_front(text_of(data));
    }
    void set_write_buffer_limits(std::size_t, std::optional<std::size_t>) override {}
    WriteLimits write_buffer_limits() const noexcept override { return {}; }
    std::size_t write_buffer_size() const noexcept override { return 0; }
    Future<void> drain() override { throw std::logic_error("FakeTransport has nothing to drain"); }
    void set_idle_timeout(Duration) override {}
    void set_linger(Linger) override {}
    std::unique_ptr<Protocol> set_protocol(std::unique_ptr<Protocol> protocol) override {
        std::swap(protocol, protocol_);
        return protocol;
    }
    Protocol& protocol() const noexcept override { return *protocol_; }
    Address local_address() const override { return {}; }
    Address peer_address() const override { return {}; }
    int fd() const noexcept override { return -1; }
    std::optional<Credentials> peer_credentials() const override { return {}; }
    Loop& loop() const noexcept override { std::terminate(); }
    TransportRef ref() const override { return {}; }

    std::string written;      ///< everything written, in order
    int writes = 0;           ///< by how many calls
    int deliveries = 0;       ///< chunks delivered
    int placed = 0;           ///< pieces delivered into the protocol's own memory
    bool closing = false;     ///< `close`, `abort`, or lost
    bool aborted = false;     ///< by `abort`
    bool lost = false;        ///< `connection_lost` was called
    std::error_code reason{}; ///< what `connection_lost` gets

private:
    void deliver(Bytes data) {
        while (!data.empty()) {
            if (protocol_->reading() == Reading::push) return protocol_->data_received(data);
            const MutableBytes room = protocol_->get_buffer(data.size());
            const std::size_t size = std::min(room.size(), data.size());
            std::copy_n(data.begin(), size, room.begin());
            data = data.subspan(size);
            ++placed;
            protocol_->buffer_updated(size);
        }
    }

    std::unique_ptr<Protocol> protocol_;
    std::deque<std::string> arrived_;
    bool reading_ = true;
    bool eof_ = false;
    bool eof_delivered_ = false;
};

} // namespace weft::test
