#pragma once

#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/future.hpp>
#include <weft/transports/stream/transport_core.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#pragma GCC visibility push(default)

namespace weft {

class Loop;

namespace detail {
class LoopCore;
struct LayerInput;
struct LayerOutput;
} // namespace detail

/// A transport that stands on another transport: encryption, a header before the first byte,
/// throttling, logging, compression. To the transport below it is the protocol, which owns it; to
/// the protocol above, which it owns, it is the transport. Everything is forwarded, in both
/// directions, unless a layer says otherwise, so that one that changes bytes is a small class:
///
///     class XorTransport final : public weft::LayeredTransport {
///     public:
///         XorTransport(std::unique_ptr<weft::Protocol> above, std::byte key)
///             : LayeredTransport(std::move(above), Handles::both), key_(key) {}
///
///     private:
///         void received(weft::Bytes data) override { deliver(crossed(data)); }
///         void send(weft::Bytes data) override { below().write(crossed(data)); }
///         …
///     };
///
/// It is given wherever a protocol is: to a server with `ListenOptions::layer`, to a connection
/// attempt with `ConnectOptions::layer`, to a connection that stands with `add_layer`, or simply as
/// the protocol of anything that takes one. Layers stand on layers as well.
///
/// All rules of `Transport` and `Protocol` hold on both sides: the protocol above cannot tell a
/// layer from a connection of its own. It is told of the connection by `open`, hears nothing once
/// it is closed, and has `connection_lost` as its last callback, when this goes, too. If the
/// connection is lost before `open` it is destroyed without a call. What it throws ends the
/// connection below. Everything is for the loop's thread.
class LayeredTransport : public Protocol, public Transport {
public:
    /// What of the stream the layer handles itself; the rest goes past it, as if it were not there.
    enum class Handles : std::uint8_t {
        nothing, ///< bytes go past it in both directions
        input,   ///< what arrives comes to `received`
        output,  ///< what is written comes to `send`
        both,
    };

    ~LayeredTransport() override;

    /// Completes when the outermost of the layers above this one is open, with a reference to it,
    /// and fails with the reason if the connection is lost before. Before there is a connection;
    /// `loop` is the one that it will be of. Cancelling it aborts the connection.
    Future<TransportRef> when_open(Loop& loop);

    // Of `Transport`, for the protocol above.
    using Transport::write;
    void write(Bytes data) override {
        if (!handles_output_) [[likely]]
            return below_->write(data);
        write_handled(data);
    }
    void write(Buffer&& data) override;
    using Transport::write_all;
    void write_all(std::span<const Bytes> pieces) override;
    Buffer keep(Bytes data) const override { return below_->keep(data); }
    Future<std::uint64_t> send_file(int file, std::uint64_t offset,
                                    std::optional<std::uint64_t> count) override;
    void write_eof() override;
    void close(std::error_code reason) override;
    void close_within(Duration limit) override;
    void abort(std::error_code reason) override;
    std::error_code write_error() const noexcept override { return below_->write_error(); }
    bool is_closing() const noexcept override {
        return phase_ >= Phase::closing || below_->is_closing();
    }
    void pause_reading() override;
    void resume_reading() override;
    void reading_changed() override;
    bool is_reading() const noexcept override;
    ReadResult try_read(MutableBytes into) override;
    std::error_code read_error() const noexcept override { return below_->read_error(); }
    void unread(Bytes data) override;
    void set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) override;
    WriteLimits write_buffer_limits() const noexcept override {
        return below_->write_buffer_limits();
    }
    std::size_t write_buffer_size() const noexcept override;
    Future<void> drain() override;
    void set_idle_timeout(Duration timeout) override { below_->set_idle_timeout(timeout); }
    void set_linger(Linger linger) override { below_->set_linger(linger); }
    std::unique_ptr<Protocol> set_protocol(std::unique_ptr<Protocol> protocol) override;
    Protocol& protocol() const noexcept override { return *above_; }
    Address local_address() const override { return below_->local_address(); }
    Address peer_address() const override { return below_->peer_address(); }
    int fd() const noexcept override { return below_->fd(); }
    std::optional<Credentials> peer_credentials() const override {
        return below_->peer_credentials();
    }
    Loop& loop() const noexcept override { return below_->loop(); }
    TransportRef ref() const override;

    // Of `Protocol`, for the transport below.
    void connection_made(Transport& transport) override;
    void data_received(Bytes data) override {
        if (!handles_input_) [[likely]]
            return above_->data_received(data);
        received(data);
    }
    MutableBytes get_buffer(std::size_t size_hint) override {
        return above_->get_buffer(size_hint);
    }
    void buffer_updated(std::size_t size) override { above_->buffer_updated(size); }
    void read_ready() override { above_->read_ready(); }
    bool eof_received() override;
    void connection_lost(std::error_code reason) override;
    void pause_writing() override;
    void resume_writing() override;
    void idle_timeout(Transport& transport) override;
    void draining(Transport& transport) override;
    Reading reading() const noexcept override {
        return handles_input_ || !above_ ? Reading::push : above_->reading();
    }

protected:
    /// `above` may be null for a layer that `add_layer` puts on a connection.
    explicit LayeredTransport(std::unique_ptr<Protocol> above, Handles handles = Handles::nothing);

    // What a layer does, called by the transport below or the protocol above.

    /// The transport below is there. By default the connection is open at once; a layer that has
    /// something to settle with its peer before begins with it here, and calls `open` later. Until
    /// then it must handle its input.
    virtual void begin() { open(); }
    /// Bytes have arrived, valid during the call only. By default they are delivered as they are.
    virtual void received(Bytes data) { deliver(data); }
    /// The end of the peer's stream has arrived. By default it is delivered.
    virtual void received_eof() { deliver_eof(); }
    /// The protocol above has written `data`, valid during the call only and not empty. By default
    /// it is written below.
    virtual void send(Bytes data) { below_->write(data); }
    /// The same with an owner. By default its bytes are sent; a layer that does not change them
    /// moves it on.
    virtual void send_owned(Buffer&& data) { send(data.bytes()); }
    /// Everything was sent, and the sending direction ends. By default it ends below; a layer with
    /// an end mark of its own writes that before.
    virtual void send_eof() { below_->write_eof(); }
    /// Everything was sent, and the connection is closed next: a last word may be written below.
    virtual void before_close() {}

    // What a layer may use.

    /// The transport below; from `begin` until `connection_lost` has returned.
    Transport& below() const noexcept { return *below_; }
    /// The connection is ready for the protocol above: calls its `connection_made`, unless it had
    /// the connection already before `add_layer`. Once.
    void open();
    bool is_open() const noexcept { return phase_ >= Phase::open; }
    /// Hands `data` to the protocol above, by whichever contract it reads. What it does not take
    /// now, because it has paused, reads by itself, or is not open yet, is kept, and meanwhile
    /// nothing more is read below.
    void deliver(Bytes data);
    /// The stream to the protocol above has ended: it is told once it has taken everything. Closes,
    /// if it says so. Twice is once.
    void deliver_eof();
    /// Input goes past the layer from now on, with what the protocol has not taken yet before it:
    /// for one that handles only the beginning of a stream. Not within the protocol's own calls.
    void pass_input();
    /// Nothing is sent from now on: what is written waits here, and counts as buffered. For layers
    /// that handle their output.
    void hold_output();
    /// What waits is sent, in the next turn.
    void release_output();

private:
    /// From left to right; any step but to `open` may be left out.
    enum class Phase : std::uint8_t {
        apart,   ///< there is no connection yet
        opening, ///< the protocol above has not been told of it
        open,
        closing, ///< `close`: what waits here is still sent
        gone,    ///< `connection_lost` was called
    };

    /// Of the sending direction.
    enum class OutputEnd : std::uint8_t { none, wanted, sent };

    /// What the slot of the loop refers to, and what the library needs of the layer.
    class Core final : public detail::TransportCore {
    public:
        explicit Core(LayeredTransport& layer) noexcept : layer_(layer) {}
        void on_ready(std::uint32_t ready) override;
        void on_loop_closing() override {} // the transport below ends, and this with it
        Transport* as_transport() noexcept override { return &layer_; }
        bool gather() override;
        void own_queued() override;
        Source* cork_owner() noexcept override;
        Source& event_source() noexcept override;
        void protocol_changed() override;
        void hold_input(bool holds) override;
        void leave_end_above() override { layer_.ended_above_ = true; }

    private:
        bool run_callback(const char* name, void (*call)(void*), void* callable) override;
        LayeredTransport& layer_;
    };
    detail::TransportCore* core() noexcept override { return &core_; }
    detail::TransportCore& core_below() const noexcept {
        return *detail::TransportCore::of(*below_);
    }
    friend Transport& add_layer(Transport& transport, std::unique_ptr<LayeredTransport> layer);

    detail::LoopCore& loop_core() const noexcept;
    std::string describe(const char* what) const;
    void leave_slot() noexcept;
    void close_below(std::error_code reason);
    void another_turn();
    void in_turn();
    // Input that the layer handles.
    detail::LayerInput& input();
    bool may_deliver() const noexcept;
    void tell_readable();
    Bytes place(Bytes data);
    void keep_input(Bytes data);
    void deliver_kept();
    void tell_eof();
    ReadResult read_handled(MutableBytes into);
    ReadResult read_below();
    void update_hold();
    // Output that the layer handles.
    detail::LayerOutput& output();
    bool output_waits() const noexcept;
    bool must_wait() const noexcept;
    bool takes_writes(const char* what);
    void write_handled(Bytes data);
    void send_waiting();
    std::size_t send_file_part();
    void output_changed();
    void drop_output(std::error_code why);
    void update_pressure();

    std::unique_ptr<Protocol> above_;
    Transport* below_ = nullptr;
    std::unique_ptr<detail::LayerInput> input_;     // once input was handled
    std::unique_ptr<detail::LayerOutput> output_;   // once output had to wait
    std::unique_ptr<Promise<TransportRef>> opened_; // until then, if anybody wants to know
    Core core_{*this};
    std::shared_ptr<detail::Mailbox> mailbox_; // of the loop
    Token token_ = 0;
    Phase phase_ = Phase::apart;
    OutputEnd end_ = OutputEnd::none;
    bool handles_input_;
    bool handles_output_;
    bool announced_ = false; // the protocol above knows of the connection
    bool turn_queued_ = false;
    bool paused_ = false;     // the protocol above wants no input
    bool held_above_ = false; // another layer has input that was not taken
    bool below_is_full_ = false;
    bool told_to_pause_ = false;
    bool ended_above_ = false; // the layer above closes when both directions have ended
    bool held_below_ = false;  // the transport below was told to hold its input
};

/// Puts `layer` between a connection and its protocol, in any of the protocol's callbacks or
/// outside of them: from now on the bytes of the connection are the layer's, those that were given
/// back (`Transport::unread`) or not delivered yet included, and the protocol talks to the
/// transport that is returned. It is not told of the connection once more. Its reading is resumed.
Transport& add_layer(Transport& transport, std::unique_ptr<LayeredTransport> layer);

/// Puts layers on the connections that are made: makes one for the protocol that it is given.
using LayerFactory =
    std::function<std::unique_ptr<LayeredTransport>(std::unique_ptr<Protocol> above)>;

/// A factory of layers `L`, each constructed from the protocol above it and copies of `arguments`:
/// `listen(loop, address, factory, {.layer = layered<XorTransport>(key)})`.
template<class L, class... Arguments>
LayerFactory layered(Arguments... arguments) {
    return [... arguments = std::move(arguments)](std::unique_ptr<Protocol> above) {
        return std::unique_ptr<LayeredTransport>(
            std::make_unique<L>(std::move(above), arguments...));
    };
}

} // namespace weft

#pragma GCC visibility pop
