#pragma once

#include <weft/protocols/transport.hpp>
#include <weft/reactor/source.hpp>

#include <type_traits>

#pragma GCC visibility push(default)

namespace weft::detail {

/// What the library itself needs of a stream transport, beyond what users may do with it: streams
/// of coroutines, layers and servers. Every transport of the loop has one, which is also what its
/// slot refers to.
class TransportCore : public Source {
public:
    /// That of `transport`; null for one that stands in for the loop's, as tests have them.
    static TransportCore* of(Transport& transport) noexcept { return transport.core(); }

    /// Small writes gather from here on, as they do in a callback of this connection, until the
    /// cork is flushed; whoever calls this flushes it before others run. What another connection
    /// has gathered leaves first. False if what is written now would be dropped: sending has
    /// failed, or the transport is closing.
    virtual bool gather() = 0;
    /// Copies what waits to be sent and has no owner (`Buffer::unowned`): whoever kept it there is
    /// free to go.
    virtual void own_queued() = 0;
    /// The source that owns the cork while this gathers, if what is written may go straight there;
    /// null if it has to go through `Transport::write`. Stays the same.
    virtual Source* cork_owner() noexcept = 0;
    /// The source that the events of the connection go to.
    virtual Source& event_source() noexcept = 0;
    /// Asks the protocol anew how it reads, because it is another one, or something else stands
    /// behind it: input that was not delivered, and its end, are told to it in a turn of their own,
    /// and so is that writing is paused.
    virtual void protocol_changed() = 0;
    /// While `holds`, nothing is read, and the loss of the connection waits until what is held
    /// above was read: a layer has input that its protocol has not taken yet.
    virtual void hold_input(bool holds) = 0;

    /// That both directions have ended is no reason to close from now on: a layer, which is the
    /// protocol, closes when what is above it knows of both ends.
    virtual void leave_end_above() = 0;

    /// Calls `call` as callbacks of the connection are called: what it writes gathers, and what it
    /// throws ends the connection and is reported as thrown by `name`. Not for use inside another
    /// callback of any connection. False if it threw.
    template<class Call>
    bool run_callback(const char* name, Call&& call) {
        using Callable = std::remove_reference_t<Call>;
        return run_callback(
            name, [](void* callable) { (*static_cast<Callable*>(callable))(); }, &call);
    }

protected:
    ~TransportCore() = default;

private:
    virtual bool run_callback(const char* name, void (*call)(void*), void* callable) = 0;
};

} // namespace weft::detail

#pragma GCC visibility pop
