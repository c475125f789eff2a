#pragma once

#include <weft/coro/sync/exchange.hpp>
#include <weft/coro/sync/item_store.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

namespace detail {

inline constexpr ExchangeNames channel_names{"Channel::send", "Channel::receive",
                                             "somebody to receive from a Channel",
                                             "an item of a Channel"};

/// One of the things that `select` waits for.
class SelectCase {
public:
    SelectCase() = default;
    SelectCase(const SelectCase&) = delete;
    SelectCase& operator=(const SelectCase&) = delete;
    /// At the start of a `select`: forgets the last one. `UsageError` if it is in one, or has
    /// nothing to send.
    virtual void begin() = 0;
    /// Lets it take effect, if it can at once.
    virtual bool try_now() = 0;
    /// Stands in line.
    virtual Slot& enter() noexcept = 0;
    /// It took effect: calls its handler.
    virtual void finish() = 0;

    bool in_select = false;

protected:
    ~SelectCase() = default;
};

struct NoHandler {
    void operator()() const noexcept {}
};

template<class T, class F>
class ReceiveCase final : public SelectCase {
public:
    using Items = Exchange<T, FifoStore<T>>;
    ReceiveCase(Items& items, F handler) : items_(items), handler_(std::move(handler)) {}
    void begin() override {
        item_.reset();
        slot_.outcome = Slot::Outcome::none;
    }
    bool try_now() override { return items_.try_take(item_) || items_.closed(); }
    Slot& enter() noexcept override {
        items_.enter(slot_);
        return slot_;
    }
    void finish() override {
        std::optional<T> item = std::move(item_);
        item_.reset();
        handler_(std::move(item));
    }

private:
    Items& items_;
    F handler_;
    std::optional<T> item_;
    TakeSlot<T> slot_{item_};
};

template<class T, class F>
class SendCase final : public SelectCase {
public:
    using Items = Exchange<T, FifoStore<T>>;
    SendCase(Items& items, T&& item, F handler)
        : items_(items), item_(std::move(item)), handler_(std::move(handler)) {}
    /// What is to be sent, as long as that has not taken effect.
    T& item() noexcept { return item_; }
    /// Something else to send: for a case that has sent what it had.
    void set_item(T item) {
        item_ = std::move(item);
        sent_ = false;
    }
    bool sent() const noexcept { return sent_; }

    void begin() override {
        if (sent_)
            throw UsageError("select: a case of Channel::on_send has sent its item; set_item gives "
                             "it another");
        slot_.outcome = Slot::Outcome::none;
    }
    bool try_now() override {
        if (items_.closed()) slot_.outcome = Slot::Outcome::closed;
        return items_.closed() || items_.try_give(item_);
    }
    Slot& enter() noexcept override {
        items_.enter(slot_);
        return slot_;
    }
    void finish() override {
        if (slot_.outcome == Slot::Outcome::closed) throw_closed("Channel::on_send");
        sent_ = true;
        handler_();
    }

private:
    Items& items_;
    T item_;
    F handler_;
    bool sent_ = false;
    GiveSlot<T> slot_{item_};
};

/// Which of the cases took effect; `count` if none could at once and `wait` is false. Its `finish`
/// is to be called, and may begin another `select` with the same cases.
std::size_t select(Coroutine& self, SelectCase* const* cases, std::size_t count, bool wait,
                   Deadline deadline);

template<class Case>
concept Selectable = std::derived_from<std::remove_cvref_t<Case>, SelectCase>;

} // namespace detail

/// Items from those that send to those that receive, in order, each to one of them. Those that wait
/// on either side are served in the order in which they came. A wait that was cancelled or timed
/// out has sent or received nothing; one that was served before that has, and returns. Items must
/// not throw when moved. For the coroutines of one loop; `try_send`, `try_receive` and `close` also
/// for its plain callbacks.
template<class T>
class Channel {
public:
    /// Holds `capacity` items that were sent and not received; 0: each sender waits for its
    /// receiver.
    explicit Channel(std::size_t capacity = 0) noexcept : items_(capacity, detail::channel_names) {}
    /// Those that still wait get a `UsageError`.
    ~Channel() = default;
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;

    /// Sends an item. Suspends while there is no room, and nobody to receive it. When it throws,
    /// `Cancelled`, `TimeoutError`, or `std::system_error` with `Errc::closed`, nothing was sent,
    /// and `item` is as it was.
    void send(T&& item, Deadline deadline = {}) {
        detail::Coroutine& self = detail::running("Channel::send");
        self.scheduler.checkpoint(self);
        items_.give(self, item, deadline);
    }
    void send(const T& item, Deadline deadline = {}) { send(T(item), deadline); }
    /// Sends it if that needs no waiting, else `Errc::queue_full`, or `Errc::closed`; then `item`
    /// is as it was. Does not suspend.
    [[nodiscard]] std::error_code try_send(T&& item) { return items_.give_now(item); }
    [[nodiscard]] std::error_code try_send(const T& item) { return try_send(T(item)); }

    /// Receives the next item; nothing once the channel is closed and everything was received.
    /// Suspends while there is none. Throws `Cancelled` and `TimeoutError`.
    std::optional<T> receive(Deadline deadline = {}) {
        std::optional<T> item;
        next(item, deadline);
        return item;
    }
    /// Receives one if that needs no waiting, else `std::errc::resource_unavailable_try_again`, or
    /// `Errc::closed`. Does not suspend.
    Result<T> try_receive() { return items_.take_now("try_receive"); }

    /// Nothing can be sent any more, and those that wait to do so fail. What is in it can still be
    /// received; then the channel has ended. Does not suspend. Harmless a second time.
    void close() noexcept { items_.close(); }
    bool closed() const noexcept { return items_.closed(); }
    std::size_t size() const noexcept { return items_.size(); }
    std::size_t capacity() const noexcept { return items_.capacity(); }

    /// For a range-for over the items up to the channel's end; suspends and throws as `receive`
    /// does.
    auto begin() { return detail::ItemIterator<Channel, T>(*this); }
    std::default_sentinel_t end() const noexcept { return {}; }

    /// For `select`: receiving, after which `handler(std::optional<T>)` is called, with nothing if
    /// the channel has ended.
    template<class F>
        requires std::is_invocable_v<F&, std::optional<T>>
    auto on_receive(F handler) {
        return detail::ReceiveCase<T, F>(items_, std::move(handler));
    }
    /// For `select`: sending `item`, after which `handler()` is called. A channel that is closed
    /// can be chosen, and then `select` throws `std::system_error` with `Errc::closed`.
    template<class F = detail::NoHandler>
        requires std::is_invocable_v<F&>
    auto on_send(T item, F handler = {}) {
        return detail::SendCase<T, F>(items_, std::move(item), std::move(handler));
    }

private:
    friend class detail::ItemIterator<Channel, T>;
    bool next(std::optional<T>& item, Deadline deadline = {}) {
        detail::Coroutine& self = detail::running("Channel::receive");
        self.scheduler.checkpoint(self);
        return items_.take(self, item, deadline);
    }

    detail::Exchange<T, detail::FifoStore<T>> items_;
};

/// Waits until one of the cases, which `Channel::on_receive` and `on_send` make, can take effect:
/// exactly one does. Of those that can at once it is one drawn by lot, else the first that can.
/// Calls that case's handler, and returns its number. Suspends if none can at once. When it throws,
/// `Cancelled` or `TimeoutError`, none has taken effect; what the handler throws passes.
///
/// A case may be made once and used in any number of `select`s, one after the other. The item of an
/// `on_send` that was not chosen stays in the case: `item()` has it. One that was chosen needs
/// another before it is used again, with `set_item`. `UsageError`, before anything has taken
/// effect, if it has none, and if a case is there twice or in the `select` of another coroutine.
template<detail::Selectable... Cases>
std::size_t select(Deadline deadline, Cases&&... cases) {
    static_assert(sizeof...(Cases) != 0, "nothing to wait for");
    detail::Coroutine& self = detail::running("select");
    const std::array<detail::SelectCase*, sizeof...(Cases)> all{&cases...};
    const std::size_t chosen = detail::select(self, all.data(), all.size(), true, deadline);
    all[chosen]->finish();
    return chosen;
}
template<detail::Selectable... Cases>
std::size_t select(Cases&&... cases) {
    return select(Deadline(), std::forward<Cases>(cases)...);
}
/// The same without waiting: nothing if none of the cases can take effect at once. Suspends, and
/// throws `Cancelled`, only where the handler does.
template<detail::Selectable... Cases>
std::optional<std::size_t> try_select(Cases&&... cases) {
    static_assert(sizeof...(Cases) != 0, "nothing to try");
    detail::Coroutine& self = detail::running("try_select");
    const std::array<detail::SelectCase*, sizeof...(Cases)> all{&cases...};
    const std::size_t chosen = detail::select(self, all.data(), all.size(), false, {});
    if (chosen == all.size()) return {};
    all[chosen]->finish();
    return chosen;
}

} // namespace weft::coro

#pragma GCC visibility pop
