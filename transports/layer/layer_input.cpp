// Input that a layer handles: from `deliver` to the protocol above, by whichever contract it reads.
// The transport below pushes. What the protocol does not take is kept here, and holds what is
// below, so that never more than one delivery is.

#include "layer_state.hpp"

#include <weft/transports/layer/layered_transport.hpp>

#include <algorithm>

namespace weft {

using detail::LayerInput;
using End = LayerInput::End;

LayerInput& LayeredTransport::input() {
    if (!input_) input_ = std::make_unique<LayerInput>();
    return *input_;
}

bool LayeredTransport::may_deliver() const noexcept {
    return phase_ == Phase::open && !paused_ && !held_above_ && !below_->is_closing();
}

void LayeredTransport::deliver(Bytes data) {
    if (data.empty() || is_closing()) return;
    LayerInput& in = input();
    if (!may_deliver() || in.collecting || in.waits()) return keep_input(data);
    switch (above_->reading()) {
    case Reading::push:
        return above_->data_received(data);
    case Reading::buffered:
        return keep_input(place(data));
    case Reading::pull:
        break;
    }
    struct Passing {
        LayerInput& in;
        ~Passing() { in.passing = {}; }
    } passing{in};
    in.passing = data;
    tell_readable();
    keep_input(std::exchange(in.passing, {}));
}

/// Lets a protocol that pulls know, once until it meets an empty stream.
void LayeredTransport::tell_readable() {
    if (!std::exchange(input().told, true)) above_->read_ready();
}

/// Hands `data` to a buffered protocol; what is left of it.
Bytes LayeredTransport::place(Bytes data) {
    LayerInput& in = input();
    while (!data.empty()) {
        in.exchanged = false;
        const MutableBytes room = above_->get_buffer(data.size());
        if (in.exchanged || !may_deliver()) return data; // the memory may have gone
        if (room.empty()) {
            abort(Errc::empty_buffer);
            loop_core().report({describe("get_buffer"), nullptr, std::source_location()});
            return {};
        }
        const std::size_t size = std::min(room.size(), data.size());
        std::copy_n(data.begin(), size, room.begin());
        data = data.subspan(size);
        above_->buffer_updated(size);
        // Closed, paused, exchanged, or something was given back, which comes first.
        if (!may_deliver() || above_->reading() != Reading::buffered || in.waits()) return data;
    }
    return data;
}

void LayeredTransport::keep_input(Bytes data) {
    if (data.empty() || is_closing()) return;
    LayerInput& in = input();
    in.kept.append(data);
    update_hold();
    if (may_deliver() && !in.collecting && !in.told) another_turn();
}

/// In a turn of its own: what the protocol was not given yet.
void LayeredTransport::deliver_kept() {
    LayerInput& in = *input_;
    if (!in.kept.empty() && may_deliver()) {
        const Reading reading = above_->reading();
        if (reading == Reading::pull) return tell_readable();
        const std::vector<std::byte> data = in.kept.take_all();
        if (reading == Reading::push) {
            above_->data_received(data);
        } else {
            keep_input(place(data)); // behind what was given back meanwhile
        }
    }
    if (in.kept.empty() && in.end == End::met && may_deliver()) tell_eof();
    update_hold();
}

void LayeredTransport::deliver_eof() {
    LayerInput& in = input();
    if (in.end != End::not_met || is_closing()) return;
    in.end = End::met;
    update_hold();
    if (in.kept.empty() && in.passing.empty() && !in.collecting && may_deliver()) tell_eof();
}

void LayeredTransport::tell_eof() {
    if (above_->reading() == Reading::pull) return tell_readable();
    input_->end = End::told;
    update_hold();
    if (!above_->eof_received() || (end_ != OutputEnd::none && !ended_above_)) close({});
}

bool LayeredTransport::eof_received() {
    if (!handles_input_) return above_->eof_received();
    core_below().leave_end_above(); // what is above knows of both ends
    received_eof();
    return true;
}

/// The transport below reads nothing, and is not lost, while something waits here.
void LayeredTransport::update_hold() {
    const bool wanted = held_above_ || (input_ && input_->waits());
    if (wanted == held_below_) return;
    held_below_ = wanted;
    core_below().hold_input(wanted);
}

void LayeredTransport::Core::hold_input(bool holds) {
    layer_.held_above_ = holds;
    layer_.update_hold();
    if (!holds && layer_.input_ && layer_.input_->waits()) layer_.another_turn();
}

// --- For the protocol above ---

void LayeredTransport::pause_reading() {
    paused_ = true;
    below_->pause_reading();
}

void LayeredTransport::resume_reading() {
    paused_ = false;
    if (phase_ >= Phase::closing) return;
    below_->resume_reading();
    if (input_ && input_->waits()) another_turn();
}

void LayeredTransport::reading_changed() {
    below_->reading_changed();
    if (input_ && input_->waits()) another_turn();
}

bool LayeredTransport::is_reading() const noexcept {
    if (!handles_input_) return below_->is_reading();
    return phase_ == Phase::open && !paused_ && !below_->is_closing() &&
           !(input_ && input_->over());
}

void LayeredTransport::unread(Bytes data) {
    if (!handles_input_) return below_->unread(data);
    if (is_closing() || data.empty()) return;
    LayerInput& in = input();
    if (in.end == End::told) return; // as any transport: its end was told
    if (in.end == End::pulled) in.end = End::met;
    in.kept.put_back(data);
    in.told = false;
    update_hold();
    another_turn();
}

ReadResult LayeredTransport::try_read(MutableBytes into) {
    if (!handles_input_) return below_->try_read(into);
    return read_handled(into);
}

ReadResult LayeredTransport::read_handled(MutableBytes into) {
    using State = ReadResult::State;
    LayerInput& in = input();
    if (in.over()) return {State::eof};
    if (is_closing()) return {State::failed};
    if (!in.waits()) {
        const ReadResult got = read_below();
        if (!in.waits()) return got;
    }
    if (in.end == End::met && in.kept.empty() && in.passing.empty()) {
        // One that is pushed to is told by `eof_received`.
        if (above_->reading() == Reading::pull) in.end = End::pulled;
        update_hold();
        return {State::eof};
    }
    if (into.empty()) throw UsageError(describe("try_read") + ": no room to read into");
    std::size_t size = in.kept.take(into);
    if (size == 0) {
        size = std::min(into.size(), in.passing.size());
        std::copy_n(in.passing.begin(), size, into.begin());
        in.passing = in.passing.subspan(size);
    }
    update_hold();
    const bool emptied = !in.waits();
    if (emptied) in.told = false;
    return {State::data, size, emptied};
}

/// Takes from below what is there, so that it is kept; else why there is nothing.
ReadResult LayeredTransport::read_below() {
    using State = ReadResult::State;
    LayerInput& in = *input_;
    struct Collecting {
        LayerInput& in;
        explicit Collecting(LayerInput& i) noexcept : in(i) { in.collecting = true; }
        ~Collecting() { in.collecting = false; }
    } const collecting(in);
    in.told = false;
    Buffer block; // the loop's own buffer may be in the hands of whoever asks
    for (;;) {
        if (block.empty()) block = loop_core().blocks().take();
        const ReadResult got = below_->try_read(block.writable());
        // The end is told in its own turn.
        if (got.state == State::eof) return {State::would_block};
        if (got.state != State::data) return got;
        received(block.bytes().first(got.size));
        if (in.waits() || is_closing()) return {State::failed};
    }
}

void LayeredTransport::pass_input() {
    if (!handles_input_) return;
    handles_input_ = false;
    const std::vector<std::byte> kept = input_ ? input_->kept.take_all() : std::vector<std::byte>();
    update_hold();
    below_->unread(kept);
    below_->reading_changed();
}

} // namespace weft
