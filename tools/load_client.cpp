#include "load_run.hpp"

#include <weft/protocols/transport.hpp>

#include <algorithm>
#include <cstring>
#include <deque>

namespace weft::tools {

Pattern::Pattern(std::size_t size, bool lines)
    : size_(size), end_(lines ? bytes_of("\n") : Bytes()), bytes_(period + size) {
    // Printable, so that a service that speaks text can be loaded and a capture be read. The
    // generator is that of Numerical Recipes; its high bits are good enough to tell messages apart.
    std::uint32_t state = 1;
    for (std::size_t i = 0; i < period; ++i) {
        state = state * 1664525 + 1013904223;
        bytes_[i] = static_cast<std::byte>('!' + (state >> 24) % 94);
    }
    for (std::size_t i = period; i < bytes_.size(); ++i)
        bytes_[i] = bytes_[i - period];
}

Bytes Pattern::message(std::size_t connection, std::uint64_t number) const noexcept {
    // Any two primes below the period: neighbours in both numbers lie far apart.
    const std::size_t start = (connection * 7919 + number * 104729) % period;
    return Bytes(bytes_).subspan(start, size_ - end_.size());
}

bool Pattern::matches(std::size_t connection, std::uint64_t number, std::size_t offset,
                      Bytes data) const noexcept {
    const Bytes body = message(connection, number);
    const std::size_t in_body = std::min(data.size(), body.size() - std::min(offset, body.size()));
    if (in_body != 0 && std::memcmp(data.data(), body.data() + offset, in_body) != 0) return false;
    const Bytes rest = data.subspan(in_body);
    return rest.empty() || std::ranges::equal(rest, end_.subspan(offset + in_body - body.size()));
}

namespace {

class StreamClient final : public Protocol, public LoadClient {
public:
    StreamClient(LoadRun& run, std::size_t number) noexcept : run_(run), number_(number) {}

    // As a protocol.
    void connection_made(Transport& transport) override {
        transport_ = &transport;
        run_.joined(*this);
    }
    void data_received(Bytes data) override {
        const TimePoint now = run_.now();
        while (!data.empty()) {
            if (written_ == answered_) return refuse("bytes that nobody asked for");
            const Bytes piece = data.first(std::min(data.size(), run_.pattern().size() - offset_));
            if (!run_.pattern().matches(number_, answered_, offset_, piece)) {
                return refuse("answer differs from what was sent");
            }
            data = data.subspan(piece.size());
            offset_ += piece.size();
            if (offset_ < run_.pattern().size()) return;
            offset_ = 0;
            ++answered_;
            const TimePoint due = due_.front();
            due_.pop_front();
            run_.answered(due, now);
            run_.next(*this, now);
        }
    }
    void pause_writing() override { paused_ = true; }
    void resume_writing() override {
        paused_ = false;
        while (!paused_ && written_ - answered_ < due_.size())
            write_next();
    }
    void connection_lost(std::error_code reason) override {
        if (reason && reason != Errc::aborted) {
            run_.failed("connection lost: " + reason.message());
        } else if (!closed_here_) {
            run_.failed("connection closed by the service");
        }
        run_.left(*this);
    }

    // As a client.
    void send_message(TimePoint due) override {
        due_.push_back(due);
        if (!paused_) write_next();
    }
    std::size_t outstanding() const noexcept override { return due_.size(); }
    void expire(TimePoint) override {} // a stream answers late or never
    void close() override {
        closed_here_ = true;
        // What was never answered may never be taken either, and a close would wait for it.
        due_.empty() ? transport_->close() : transport_->abort();
    }

private:
    void write_next() {
        const Bytes body = run_.pattern().message(number_, written_);
        ++written_; // first: `write_all` may call `pause_writing`
        if (run_.pattern().end().empty()) {
            transport_->write(body);
        } else {
            const Bytes pieces[] = {body, run_.pattern().end()};
            transport_->write_all(pieces);
        }
    }
    void refuse(const char* kind) {
        run_.failed(kind);
        close();
    }

    LoadRun& run_;
    const std::size_t number_;
    Transport* transport_ = nullptr;
    std::deque<TimePoint> due_; ///< of the messages without an answer, whether written or not
    std::uint64_t written_ = 0; ///< messages
    std::uint64_t answered_ = 0;
    std::size_t offset_ = 0; ///< in the answer that is coming
    bool paused_ = false;
    bool closed_here_ = false;
};

/// A datagram is its message's number in 8 bytes, then as much of the pattern as there is room for.
class DatagramClient final : public DatagramProtocol, public LoadClient {
    static constexpr std::size_t head = 8;

public:
    DatagramClient(LoadRun& run, std::size_t number)
        : run_(run), number_(number), buffer_(run.pattern().size()) {}

    // As a protocol.
    void connection_made(DatagramTransport& transport) override {
        transport_ = &transport;
        run_.joined(*this);
    }
    void datagram_received(const Datagram& datagram) override {
        const TimePoint now = run_.now();
        std::uint64_t number = 0;
        if (datagram.data.size() != buffer_.size()) return run_.failed("answer of another size");
        std::memcpy(&number, datagram.data.data(), head);
        if (!run_.pattern().matches(number_, number, 0, datagram.data.subspan(head))) {
            return run_.failed("answer differs from what was sent");
        }
        if (number < first_ || number - first_ >= pending_.size()) {
            return run_.failed("answer after the timeout");
        }
        Pending& pending = pending_[number - first_];
        if (pending.answered) return run_.failed("second answer");
        pending.answered = true;
        --outstanding_;
        run_.answered(pending.due, now);
        drop_answered();
        run_.next(*this, now);
    }
    void error_received(std::error_code error, const Address&) override {
        run_.failed("datagram failed: " + error.message());
    }
    void connection_lost(std::error_code reason) override {
        if (reason && reason != Errc::aborted) run_.failed("socket lost: " + reason.message());
        run_.left(*this);
    }

    // As a client.
    void send_message(TimePoint due) override {
        const std::uint64_t number = first_ + pending_.size();
        pending_.push_back({due, run_.now(), false});
        ++outstanding_;
        const Bytes body = run_.pattern().message(number_, number).first(buffer_.size() - head);
        std::memcpy(buffer_.data(), &number, head);
        std::memcpy(buffer_.data() + head, body.data(), body.size());
        transport_->send(buffer_);
    }
    std::size_t outstanding() const noexcept override { return outstanding_; }
    void expire(TimePoint time) override {
        std::size_t lost = 0;
        while (!pending_.empty() && pending_.front().sent < time) {
            lost += !pending_.front().answered;
            pending_.pop_front();
            ++first_;
        }
        if (lost == 0) return;
        outstanding_ -= lost;
        run_.failed("no answer in time", lost);
        const TimePoint now = run_.now();
        for (; lost > 0; --lost)
            run_.next(*this, now);
    }
    void close() override { transport_->abort(); }

private:
    struct Pending {
        TimePoint due;
        TimePoint sent;
        bool answered;
    };
    void drop_answered() {
        while (!pending_.empty() && pending_.front().answered) {
            pending_.pop_front();
            ++first_;
        }
    }

    LoadRun& run_;
    const std::size_t number_;
    DatagramTransport* transport_ = nullptr;
    std::vector<std::byte> buffer_;
    std::deque<Pending> pending_; ///< from the number `first_` on
    std::uint64_t first_ = 0;
    std::size_t outstanding_ = 0;
};

} // namespace

std::unique_ptr<Protocol> make_stream_client(LoadRun& run, std::size_t number) {
    return std::make_unique<StreamClient>(run, number);
}

std::unique_ptr<DatagramProtocol> make_datagram_client(LoadRun& run, std::size_t number) {
    return std::make_unique<DatagramClient>(run, number);
}

} // namespace weft::tools
