#pragma once

#include <weft/coro/sync/channel.hpp>

#include <cstddef>
#include <memory>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {
namespace detail {

template<class T>
struct SharedChannel {
    explicit SharedChannel(std::size_t capacity) noexcept : channel(capacity) {}
    Channel<T> channel;
    std::size_t senders = 0;
    std::size_t receivers = 0;
};

/// One of those that own an end of a channel; the last of them closes it.
template<class T, std::size_t SharedChannel<T>::*count>
class ChannelEnd {
public:
    ChannelEnd() noexcept = default;
    explicit ChannelEnd(std::shared_ptr<SharedChannel<T>> shared) noexcept
        : shared_(std::move(shared)) {
        if (shared_) ++(*shared_.*count);
    }
    ChannelEnd(const ChannelEnd& other) noexcept : ChannelEnd(other.shared_) {}
    ChannelEnd(ChannelEnd&& other) noexcept = default;
    ChannelEnd& operator=(ChannelEnd other) noexcept {
        std::swap(shared_, other.shared_);
        return *this;
    }
    ~ChannelEnd() { close(); }

    /// Gives this end up. Does not suspend.
    void close() noexcept {
        const auto shared = std::move(shared_);
        shared_ = nullptr;
        if (shared && --(*shared.*count) == 0) shared->channel.close();
    }
    /// Whether it is one, and not empty, moved from or closed.
    bool valid() const noexcept { return shared_ != nullptr; }

protected:
    /// Holds the channel while somebody waits in it.
    std::shared_ptr<SharedChannel<T>> shared(const char* what) const {
        if (!shared_)
            throw UsageError(std::string(what) +
                             ": this end of a channel is empty (moved from or closed)");
        return shared_;
    }

private:
    std::shared_ptr<SharedChannel<T>> shared_;
};

} // namespace detail

/// The end of a channel that sends, for one owner; copies are for others. When the last has gone
/// the channel is closed: receivers get what is in it, and then nothing. For the loop's thread.
template<class T>
class Sender : public detail::ChannelEnd<T, &detail::SharedChannel<T>::senders> {
public:
    using detail::ChannelEnd<T, &detail::SharedChannel<T>::senders>::ChannelEnd;
    /// As the functions of `Channel`. `Errc::closed` once there are no receivers.
    void send(T&& item, Deadline deadline = {}) {
        this->shared("Sender::send")->channel.send(std::move(item), deadline);
    }
    void send(const T& item, Deadline deadline = {}) { send(T(item), deadline); }
    [[nodiscard]] std::error_code try_send(T&& item) {
        return this->shared("Sender::try_send")->channel.try_send(std::move(item));
    }
    [[nodiscard]] std::error_code try_send(const T& item) { return try_send(T(item)); }
    /// For `select`, whose case must not outlive this end.
    template<class F = detail::NoHandler>
    auto on_send(T item, F handler = {}) {
        return this->shared("Sender::on_send")
            ->channel.on_send(std::move(item), std::move(handler));
    }
};

/// The end that receives, likewise. When the last has gone nothing can be sent any more, and what
/// is in the channel is dropped with it.
template<class T>
class Receiver : public detail::ChannelEnd<T, &detail::SharedChannel<T>::receivers> {
public:
    using detail::ChannelEnd<T, &detail::SharedChannel<T>::receivers>::ChannelEnd;
    /// As the functions of `Channel`.
    std::optional<T> receive(Deadline deadline = {}) {
        return this->shared("Receiver::receive")->channel.receive(deadline);
    }
    Result<T> try_receive() { return this->shared("Receiver::try_receive")->channel.try_receive(); }
    template<class F>
    auto on_receive(F handler) {
        return this->shared("Receiver::on_receive")->channel.on_receive(std::move(handler));
    }
    /// For a range-for over the items up to the channel's end.
    auto begin() { return this->shared("Receiver::begin")->channel.begin(); }
    std::default_sentinel_t end() const noexcept { return {}; }
};

/// A channel whose ends count their owners: nobody has to know which closes it.
///
///     auto [sender, receiver] = coro::channel_ends<Job>(10);
///     for (int i = 0; i < 3; ++i) group.spawn([sender] () mutable { produce(sender); });
///     sender.close();
///     for (Job& job : receiver) work(job); // until the last producer has ended
template<class T>
std::pair<Sender<T>, Receiver<T>> channel_ends(std::size_t capacity = 0) {
    auto shared = std::make_shared<detail::SharedChannel<T>>(capacity);
    return {Sender<T>(shared), Receiver<T>(shared)};
}

} // namespace weft::coro

#pragma GCC visibility pop
