// What a layer is to both sides, but for the bytes that it handles itself: see layer_input.cpp and
// layer_output.cpp.

#include "layer_state.hpp"

#include <weft/transports/layer/layered_transport.hpp>

#include <utility>

namespace weft {

using detail::LayerInput;

LayeredTransport::LayeredTransport(std::unique_ptr<Protocol> above, Handles handles)
    : above_(std::move(above)),
      handles_input_(handles == Handles::input || handles == Handles::both),
      handles_output_(handles == Handles::output || handles == Handles::both) {}

LayeredTransport::~LayeredTransport() {
    leave_slot();
}

void LayeredTransport::leave_slot() noexcept {
    const Token token = std::exchange(token_, 0);
    if (token != 0 && mailbox_->loop() != nullptr)
        detail::core_of(*mailbox_->loop()).remove_source(token);
}

Future<TransportRef> LayeredTransport::when_open(Loop& loop) {
    if (auto* const next = dynamic_cast<LayeredTransport*>(above_.get()))
        return next->when_open(loop);
    opened_ = std::make_unique<Promise<TransportRef>>(loop);
    return opened_->future();
}

detail::LoopCore& LayeredTransport::loop_core() const noexcept {
    return detail::core_of(loop());
}

std::string LayeredTransport::describe(const char* what) const {
    return std::string(what) + " of the connection " + local_address().to_string() + " with " +
           peer_address().to_string();
}

// --- Beginning and ending ---

void LayeredTransport::connection_made(Transport& transport) {
    below_ = &transport;
    detail::LoopCore& core = detail::core_of(transport.loop());
    mailbox_ = core.mailbox();
    token_ = core.sources().add(core_);
    phase_ = Phase::opening;
    begin();
}

void LayeredTransport::open() {
    if (phase_ != Phase::opening) return;
    phase_ = Phase::open;
    if (!std::exchange(announced_, true)) above_->connection_made(*this);
    if (opened_) {
        const auto opened = std::move(opened_);
        if (!opened->set_value_if_pending(ref())) abort(Errc::aborted); // nobody wants it any more
    }
    if (phase_ != Phase::open) return;
    update_pressure();
    if (input_ && input_->waits()) another_turn();
}

void LayeredTransport::connection_lost(std::error_code reason) {
    phase_ = Phase::gone;
    const auto opened = std::move(opened_);
    const std::error_code why = reason ? reason : make_error_code(Errc::closed);
    drop_output(why);
    if (opened) opened->set_error_if_pending({why, describe("the opening")});
    // References are empty once it has returned, also if it throws.
    struct Gone {
        LayeredTransport& layer;
        ~Gone() {
            layer.leave_slot();
            layer.above_.reset();
        }
    } const gone{*this};
    if (announced_) above_->connection_lost(reason);
}

void LayeredTransport::close(std::error_code reason) {
    if (phase_ >= Phase::closing) return;
    if (!output_waits()) return close_below(reason);
    phase_ = Phase::closing;
    output_->reason = reason;
    below_->pause_reading();
}

void LayeredTransport::close_below(std::error_code reason) {
    phase_ = Phase::closing;
    if (!below_->is_closing()) before_close();
    below_->close(reason);
}

void LayeredTransport::abort(std::error_code reason) {
    if (phase_ == Phase::gone) return;
    phase_ = Phase::closing;
    drop_output(reason);
    below_->abort(reason);
}

void LayeredTransport::idle_timeout(Transport&) {
    // Nobody is left to be asked: what was written before `close` does not leave.
    if (phase_ == Phase::closing) return abort(std::make_error_code(std::errc::timed_out));
    announced_ ? above_->idle_timeout(*this) : Protocol::idle_timeout(*this);
}

void LayeredTransport::draining(Transport&) {
    announced_ ? above_->draining(*this) : close({});
}

TransportRef LayeredTransport::ref() const {
    return {mailbox_, token_};
}

// --- Another protocol ---

std::unique_ptr<Protocol> LayeredTransport::set_protocol(std::unique_ptr<Protocol> protocol) {
    if (!protocol) throw UsageError("set_protocol: the protocol is null");
    std::swap(above_, protocol);
    core_.protocol_changed();
    return protocol;
}

Transport& add_layer(Transport& transport, std::unique_ptr<LayeredTransport> layer) {
    if (!layer) throw UsageError("add_layer: the layer is null");
    if (layer->above_) throw UsageError("add_layer: the layer has a protocol already");
    LayeredTransport& added = *layer;
    added.above_ = transport.set_protocol(std::move(layer));
    added.announced_ = true;
    transport.reading_changed();
    transport.resume_reading();
    try {
        added.connection_made(transport);
    } catch (...) {
        transport.abort(Errc::callback_threw);
        throw;
    }
    return added;
}

// --- The turn of its own ---

void LayeredTransport::another_turn() {
    if (!std::exchange(turn_queued_, true)) loop_core().again(token_, 0);
}

void LayeredTransport::in_turn() {
    turn_queued_ = false;
    if (below_->is_closing()) return;
    if (input_ && input_->waits() &&
        !core_below().run_callback("data_received", [this] { deliver_kept(); }))
        return;
    if (output_waits()) core_below().run_callback("send", [this] { send_waiting(); });
}

// --- What the library needs ---

void LayeredTransport::Core::on_ready(std::uint32_t) {
    layer_.in_turn();
}

bool LayeredTransport::Core::gather() {
    return layer_.phase_ < Phase::closing && layer_.core_below().gather();
}

detail::Source* LayeredTransport::Core::cork_owner() noexcept {
    return layer_.handles_output_ ? nullptr : layer_.core_below().cork_owner();
}

detail::Source& LayeredTransport::Core::event_source() noexcept {
    return layer_.core_below().event_source();
}

void LayeredTransport::Core::protocol_changed() {
    layer_.told_to_pause_ = false;
    layer_.ended_above_ = false;
    layer_.core_below().protocol_changed();
    LayerInput* const input = layer_.input_.get();
    if (input == nullptr) return;
    input->told = false;
    input->exchanged = true;
    if (input->end == LayerInput::End::pulled) input->end = LayerInput::End::met;
    layer_.update_hold();
    if (input->waits()) layer_.another_turn();
}

bool LayeredTransport::Core::run_callback(const char* name, void (*call)(void*), void* callable) {
    return layer_.core_below().run_callback(name, [=] { call(callable); });
}

} // namespace weft
