#pragma once

#include <weft/protocols/codecs/framing.hpp>
#include <weft/reactor/buffer.hpp>
#include <weft/reactor/result.hpp>

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {

/// Cuts a stream into messages, one at a time, without a transport. A message that lies whole in
/// the bytes handed in is a view of them: nothing is copied and nothing is allocated. Only a
/// message that was cut is put together in memory of the decoder's own, which is freed when the
/// message has been taken. It never holds more than `max_frame()` bytes, nor more than sixteen
/// times what arrived; a frame whose size the framer knows is moved at most once more on its way.
///
/// Time is in proportion to the bytes handed in, whatever they are cut into: what the framer has
/// passed is not shown to it again, and one that wants the same bytes again and again is a
/// `UsageError`.
template<Framer F>
class Decoder {
public:
    using Message = MessageOf<F>;
    /// What `next` found.
    struct Next {
        enum class State : std::uint8_t { more, message, error };
        State state = State::more;
        Message message{}; ///< valid until the next call on the decoder, and while the input it was
                           ///< found in is
        /// Whether it is a message: `while (auto next = decoder.next(input))`.
        explicit operator bool() const noexcept { return state == State::message; }
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
            return {State::message, shape(message)};
        }
        return keep(input, scan);
    }

    /// Calls `on_message(Message)` for every message that `data` completes. False: the bytes are no
    /// message and `error()` says why. The callable must not use the decoder.
    template<class OnMessage>
    [[nodiscard]] bool feed(Bytes data, OnMessage&& on_message) {
        while (true) {
            const Next found = next(data);
            if (found.state != State::message) return found.state == State::more;
            on_message(found.message);
        }
    }

    /// Whether so much is missing of the present message that it is worth receiving it into
    /// `room()`, instead of copying it from where it was received.
    bool wants_room() const noexcept {
        return phase_ == Phase::inside && size_ >= room_begin && missing() >= room_least;
    }
    /// Where what is missing of the present message belongs: memory for some or all of it, to be
    /// filled from its beginning. Empty unless the framer has said how much is missing. Valid until
    /// the next call.
    MutableBytes room() {
        if (phase_ != Phase::inside || missing() == 0) return {};
        if (size_ >= framer_.max_frame()) bad_framer();
        reserve(size_ + 1);
        return {bytes_ + size_, std::min(missing(), capacity_ - size_)};
    }
    /// The first `size` bytes of `room()` were received there. As `next`.
    Next filled(std::size_t size) {
        size_ += size;
        Bytes nothing;
        return scan_again(nothing, size_ - size);
    }

    /// Whether `part` lies in the present message and the message was put together here.
    bool holds(Bytes part) const noexcept {
        const std::less_equal<const std::byte*> before;
        return phase_ == Phase::delivered && before(bytes_, part.data()) &&
               before(part.data() + part.size(), bytes_ + size_);
    }
    /// An owner of `part`, which `holds` must be true of: for code that keeps it longer than
    /// the message. Without a copy where it is most of the memory that it would keep.
    Buffer keep(Bytes part) const {
        if (part.size() < kept_least || part.size() < capacity_ / 2) return Buffer::copy(part);
        return memory_.share(static_cast<std::size_t>(part.data() - bytes_), part.size());
    }

    /// Whether `next` has said `error`.
    bool failed() const noexcept { return phase_ == Phase::failed; }
    /// Why, naming the framing, the size announced and the limit.
    Error error() const { return detail::scan_error(framer_.name(), framer_.max_message(), last_); }
    /// After an error: the size that the message refused has announced, or a part of it
    /// (`Scan::at_least`); 0 if it announced none.
    std::size_t announced() const noexcept { return phase_ == Phase::failed ? last_.size : 0; }

    /// What the end of the stream means here: fine between two messages, `incomplete` inside one.
    Result<void> end() const {
        if (phase_ != Phase::inside) return {};
        return detail::incomplete_error(framer_.name(), size_, last_.need);
    }

    /// The beginning of the message that is not complete, as far as it was used up; after an error,
    /// of the one that was refused. Valid until the next call.
    Bytes partial() const noexcept { return phase_ == Phase::delivered ? Bytes() : kept(); }

    /// Ends the last message's validity, and frees its memory if it was put together here.
    void release() noexcept {
        if (phase_ == Phase::delivered) reset();
    }

    /// Forgets everything of the stream, and frees the memory.
    void reset() noexcept {
        memory_ = {};
        bytes_ = nullptr;
        size_ = capacity_ = again_ = 0;
        phase_ = Phase::between;
        stuck_ = false;
    }

    const F& framer() const noexcept { return framer_; }
    /// Bytes of memory held for a message that was cut; 0 between messages.
    std::size_t capacity() const noexcept { return capacity_; }

private:
    enum class Phase : std::uint8_t { between, inside, delivered, failed };

    /// Memory for a message of known size is taken at once, up to this many times what has arrived:
    /// a peer that announces much and sends little occupies little.
    static constexpr std::size_t growth = 16;
    /// What is worth a system call of its own, and what has to have come before there is memory for
    /// as much.
    static constexpr std::size_t room_least = 32 * 1024;
    static constexpr std::size_t room_begin = 4 * 1024;
    /// Shorter ones are copied to be kept.
    static constexpr std::size_t kept_least = 4 * 1024;
    /// Parts smaller than this are not fetched one by one.
    static constexpr std::size_t small_step = 256;
    /// Bytes shown again in one call that are not counted, and how many times the bytes of a frame
    /// may be shown again beyond that.
    static constexpr std::size_t free_again = 16 * 1024;
    static constexpr std::size_t most_again = 64;

    Bytes kept() const noexcept { return {bytes_, size_}; }
    std::size_t missing() const noexcept { return last_.need > size_ ? last_.need - size_ : 0; }

    Message shape(Bytes message) {
        if constexpr (requires(F& framer) { framer.message(message); }) {
            return framer_.message(message);
        } else {
            return message;
        }
    }

    /// `input` holds no whole message: keeps its beginning for later.
    Next keep(Bytes& input, const Scan& scan) {
        if (scan.state == Scan::State::error) return fail(scan);
        if (input.size() > framer_.max_frame() || scan.consumed > input.size()) bad_framer();
        last_ = scan;
        append(input);
        if (last_.need <= size_) last_.need = 0;
        input = {};
        phase_ = Phase::inside;
        return {};
    }

    Next next_slow(Bytes& input) {
        switch (phase_) {
        case Phase::delivered:
            reset();
            return next(input);
        case Phase::failed:
            return {State::error};
        default:
            return complete(input);
        }
    }

    /// Adds to the kept beginning until its message is whole.
    Next complete(Bytes& input) {
        while (!input.empty()) {
            const std::size_t before = size_;
            const std::size_t room = framer_.max_frame() - std::min(before, framer_.max_frame());
            const Bytes piece = input.first(std::min({step(), room, input.size()}));
            if (piece.empty()) bad_framer();
            append(piece);
            Next found = scan_again(input, before);
            if (found.state != State::more) return found;
            input = input.subspan(piece.size());
        }
        return {};
    }

    /// How much to add before the framer is asked again. Exactly what it needs, where it knows.
    /// Else, and where it looks at the same bytes again, no less than there is: bytes that turn out
    /// to belong to the next message are copied in vain, but the sum of all steps stays in
    /// proportion.
    std::size_t step() const noexcept {
        const std::size_t needed = missing();
        const std::size_t step = needed == 0 ? size_ : needed;
        const std::size_t again = size_ - last_.consumed;
        if (stuck_) return std::max(step, again);
        // A little more than a small part, so that very many of them are not fetched one by one.
        return again + needed < small_step ? std::max({step, small_step, size_ / 8}) : step;
    }

    /// Shows the framer what it wants to see, of what is kept. `before` of it were kept before the
    /// last of `input`, the beginning of which they were, was added.
    Next scan_again(Bytes& input, std::size_t before) {
        std::size_t seen = before;
        while (size_ >= last_.need) {
            const std::size_t passed = last_.consumed;
            count_again(seen - passed);
            const Scan scan = framer_.scan(kept().subspan(passed), passed);
            if (scan.state == Scan::State::frame) {
                if (scan.consumed <= before || scan.consumed > size_) bad_framer();
                if (!input.empty()) input = input.subspan(scan.consumed - before);
                phase_ = Phase::delivered;
                return {State::message, shape(kept().subspan(scan.offset, scan.size))};
            }
            if (scan.state == Scan::State::error) {
                if (!input.empty()) size_ = before;
                return fail(scan);
            }
            if (scan.consumed > size_) bad_framer();
            stuck_ = scan.consumed <= passed && last_.need != 0;
            last_ = scan;
            // Going back for what is there already, to see it as a whole.
            if (scan.consumed >= passed || scan.need == 0 || scan.need > size_) break;
            seen = size_;
        }
        if (last_.need <= size_) last_.need = 0;
        return {};
    }

    void count_again(std::size_t shown_before) {
        if (shown_before <= free_again) [[likely]]
            return;
        again_ += shown_before - free_again;
        if (again_ > most_again * size_) {
            detail::throw_looks_again(framer_.name(), again_, size_);
        }
    }

    Next fail(const Scan& scan) {
        last_ = scan;
        phase_ = Phase::failed;
        return {State::error};
    }

    [[noreturn]] void bad_framer() const { detail::throw_bad_framer(framer_.name()); }

    void append(Bytes piece) {
        reserve(size_ + piece.size());
        std::memcpy(bytes_ + size_, piece.data(), piece.size());
        size_ += piece.size();
    }

    /// Memory for `size` bytes. For all of the frame if the framer knows it and enough has arrived;
    /// else twice what there was, so that copying stays in proportion.
    void reserve(std::size_t size) {
        if (size <= capacity_) return;
        const std::size_t most = framer_.max_frame();
        std::size_t wanted = std::max(size, std::min(2 * capacity_, most));
        if (last_.need > wanted) {
            const std::size_t known = std::min(last_.need, most);
            wanted = std::max(wanted, size <= known / growth ? size * growth : known);
        }
        Buffer larger(wanted);
        std::byte* const bytes = larger.writable().data();
        if (size_ != 0) std::memcpy(bytes, bytes_, size_);
        memory_ = std::move(larger);
        bytes_ = bytes;
        capacity_ = wanted;
    }

    F framer_;
    Phase phase_ = Phase::between;
    bool stuck_ = false; ///< the framer had what it needed, and has passed nothing
    Scan last_;          ///< inside: what the framer said last; failed: why
    Buffer memory_;
    std::byte* bytes_ = nullptr; ///< where `memory_` begins
    std::size_t size_ = 0;       ///< bytes kept
    std::size_t capacity_ = 0;
    std::size_t again_ = 0; ///< bytes that were shown again for the present frame
};

} // namespace weft

#pragma GCC visibility pop
