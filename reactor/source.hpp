#pragma once

#include <weft/reactor/kernel/kernel.hpp>
#include <weft/reactor/timer_queue.hpp>

#include <cstdint>

#pragma GCC visibility push(default)

namespace weft {

class Transport;
class DatagramTransport;

namespace detail {

/// When something last happened, for what is to be told when nothing does: see
/// `LoopCore::note_activity`.
struct Activity : ListNode {
    TimePoint at{}; ///< unless `linked()`: then it was in the turn that is still going on
    ~Activity() { unlink(); }
};

/// Something that occupies a slot of a loop: a transport, a listener, a watched descriptor. The
/// loop calls it on its own thread; it may do anything but destroy a source that is not itself and
/// still registered.
class Source {
public:
    /// Memory outside of the source that `on_ready` is going to touch, if that resumes a coroutine.
    /// The front-end prefetches it (`FrontEnd::look_ahead`). Nothing depends on these addresses but
    /// that something is there, however old.
    struct Path {                     ///< itself and the two lines behind it
        const void* object = nullptr; ///< two lines from here on
        const void* stack = nullptr;  ///< seven; null only if `object` is
    };
    /// Something else's, which takes it away before it goes; null: none.
    const Path* path = nullptr;

    /// The descriptor is ready, or `LoopCore::again` asked for another turn. Bits of `weft::ready`.
    virtual void on_ready(std::uint32_t ready) = 0;
    /// In the closing phase, after `LoopCore::finish_later`: tell all that must be told, and go.
    /// The source may delete itself; the loop does not touch it afterwards.
    virtual void on_finish() {}
    /// In the flush phase, after `LoopCore::flush_later`.
    virtual void on_flush() {}
    /// `Cork::flush`: send what this source has gathered in the cork buffer, which is its no more.
    virtual void on_uncork() {}
    /// The cork was taken for another in the middle of a callback of this source, and is free
    /// again.
    virtual void on_recork() {}
    /// The loop is being closed: end, with `Errc::aborted`, usually through `finish_later`.
    virtual void on_loop_closing() = 0;
    /// What to register anew when the kernel starts over: a descriptor (-1: none) and the interest
    /// in it.
    struct Registration {
        int fd = -1;
        Interest interest = Interest::none;
    };
    virtual Registration registration() const noexcept { return {}; }
    /// The stream transport that this source is, for `TransportRef`.
    virtual Transport* as_transport() noexcept { return nullptr; }
    /// The datagram endpoint that this source is, for `DatagramRef`.
    virtual DatagramTransport* as_datagram_transport() noexcept { return nullptr; }

protected:
    Source() = default;
    ~Source() = default;
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;
};

/// What a front-end keeps for a loop: given to it with `LoopCore::add_front_end`, and gone with it.
/// A loop may have several, each of a type of its own, which `LoopCore::front_end` finds it by.
class FrontEnd {
public:
    /// Names a type of front-ends: `static constexpr char kind`, of which only the address counts.
    explicit FrontEnd(const char& kind) noexcept : kind_(&kind) {}
    FrontEnd(const FrontEnd&) = delete;
    FrontEnd& operator=(const FrontEnd&) = delete;
    virtual ~FrontEnd() = default;

    /// The loop is being closed: end everything, now. Called in rounds, as long as `alive()`.
    virtual void on_loop_closing() noexcept = 0;
    virtual bool alive() const noexcept = 0;
    /// The loop is about to wait without a deadline, and nothing that is registered with it could
    /// end that wait. What this queues is run first.
    virtual void on_nothing_to_wait_for() = 0;
    /// Its part of the front-ends' phase, which it asked for with `LoopCore::run_front_end`.
    virtual void run() = 0;
    /// Another loop is stepped inside a callback of this one: what runs here is out of sight until
    /// `step_back`.
    virtual void step_aside() noexcept = 0;
    virtual void step_back() noexcept = 0;
    /// The sources of the events after the one that is handled next, each null if there is none. A
    /// front-end may prefetch the memory that they are going to touch, so that a batch of
    /// connections does not wait for it once per connection. Asked of the first front-end of a
    /// loop.
    virtual void look_ahead(const Source* first, const Source* second,
                            const Source* third) const noexcept {
        (void)first, (void)second, (void)third;
    }

private:
    friend class LoopCore;
    const char* const kind_;
    bool wants_run_ = false;
};

} // namespace detail
} // namespace weft

#pragma GCC visibility pop
