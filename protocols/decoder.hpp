#pragma once

#include <weft/protocols/framing.hpp>
#include <weft/reactor/result.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace weft {

/// Cuts a stream into messages, one at a time, without a transport. A message that lies whole in
/// the bytes handed in is a view of them: nothing is copied and nothing is allocated. Only a
/// message that was cut is put together in a buffer of the decoder's own, which is freed when the
/// message has been taken, never holds more than `max_frame()` bytes and grows with what arrived.
template<Framer F>
class Decoder {
public:
    /// What `next` found.
    struct Next {
        enum class State : std::uint8_t { more, message, error };
        State state = State::more;
        Bytes message; ///< valid until the next call on the decoder, and while the input it was
                       ///< found in is
    };
    using State = typename Next::State;

    explicit Decoder(F framer = F()) : framer_(std::move(framer)) {}

    /// Takes the next message out of `input`, which is advanced past it. `more`: there is none, all
    /// of `input` was used and what is left of it is kept. `error`: the bytes are no message,
    /// `error()` says why, `input` begins where it did, and so will every later call end until
    /// `reset`.
    Next next(Bytes& input) {
        if (phase_ != Phase::between) [[unlikely]]
            return next_slow(input);
        if (input.empty()) return {};
        const Scan scan = framer_.scan(input, 0);
        if (scan.state == Scan::State::frame) [[likely]] {
            const Bytes message = input.subspan(scan.offset, scan.size);
            input = input.subspan(scan.consumed);
            return {State::message, message};
        }
        return keep(input, scan);
    }

    /// Calls `on_message(Bytes)` for every message that `data` completes. False: the bytes are no
    /// message and `error()` says why. The callable must not use the decoder.
    template<class OnMessage>
    [[nodiscard]] bool feed(Bytes data, OnMessage&& on_message) {
        while (true) {
            const Next found = next(data);
            if (found.state != State::message) return found.state == State::more;
            on_message(found.message);
        }
    }

    /// Why `next` said `error`, naming the framing and its limit.
    Error error() const {
        return detail::scan_error(framer_.name(), framer_.max_message(), failure_);
    }

    /// What the end of the stream means here: fine between two messages, `incomplete` inside one.
    Result<void> end() const {
        if (phase_ != Phase::inside) return {};
        return detail::incomplete_error(framer_.name(), carry_.size());
    }

    /// The beginning of the message that is not complete, as far as it was used up; after an error,
    /// of the one that was refused. Valid until the next call.
    Bytes partial() const noexcept { return phase_ == Phase::delivered ? Bytes() : Bytes(carry_); }

    /// Ends the last message's validity, and frees its memory if it was put together here.
    void release() noexcept {
        if (phase_ == Phase::delivered) reset();
    }

    /// Forgets everything of the stream, and frees the memory.
    void reset() noexcept {
        std::vector<std::byte>().swap(carry_);
        phase_ = Phase::between;
    }

    const F& framer() const noexcept { return framer_; }
    /// Bytes of memory held for a message that was cut; 0 between messages.
    std::size_t capacity() const noexcept { return carry_.capacity(); }

private:
    enum class Phase : std::uint8_t { between, inside, delivered, failed };

    /// `input` holds no whole message: keeps its beginning for later.
    Next keep(Bytes& input, const Scan& scan) {
        if (scan.state == Scan::State::error) return fail(scan);
        if (input.size() > framer_.max_frame()) detail::throw_bad_framer(framer_.name());
        append(input);
        input = {};
        need_ = scan.need;
        phase_ = Phase::inside;
        return {};
    }

    Next next_slow(Bytes& input) {
        switch (phase_) {
        case Phase::delivered:
            reset();
            return next(input);
        case Phase::failed:
            return {State::error, {}};
        default:
            return complete(input);
        }
    }

    /// Adds to the kept beginning until its message is whole.
    Next complete(Bytes& input) {
        while (!input.empty()) {
            const std::size_t before = carry_.size();
            // Where the framer does not know how much is missing, no more is tried than is there
            // already: bytes that turn out to belong to the next message are copied in vain, at
            // most as many as are needed, and the sum of all steps stays linear.
            const std::size_t step =
                need_ > before ? need_ - before : std::max<std::size_t>(before, 256);
            const std::size_t room = framer_.max_frame() - std::min(before, framer_.max_frame());
            const Bytes piece = input.first(std::min({step, room, input.size()}));
            if (piece.empty()) detail::throw_bad_framer(framer_.name());
            append(piece);
            const Scan scan = framer_.scan(carry_, before);
            if (scan.state == Scan::State::frame) {
                if (scan.consumed <= before) detail::throw_bad_framer(framer_.name());
                input = input.subspan(scan.consumed - before);
                phase_ = Phase::delivered;
                return {State::message, Bytes(carry_).subspan(scan.offset, scan.size)};
            }
            if (scan.state == Scan::State::error) {
                carry_.resize(before);
                return fail(scan);
            }
            input = input.subspan(piece.size());
            need_ = scan.need;
        }
        return {};
    }

    Next fail(const Scan& scan) {
        failure_ = scan;
        phase_ = Phase::failed;
        return {State::error, {}};
    }

    void append(Bytes piece) {
        const std::size_t size = carry_.size() + piece.size();
        if (size > carry_.capacity()) {
            // Doubling keeps the copying linear; the limit keeps the last doubling from
            // overshooting it.
            carry_.reserve(std::max(size, std::min(2 * carry_.capacity(), framer_.max_frame())));
        }
        carry_.insert(carry_.end(), piece.begin(), piece.end());
    }

    F framer_;
    Phase phase_ = Phase::between;
    std::size_t need_ = 0;
    Scan failure_;
    std::vector<std::byte> carry_;
};

} // namespace weft
