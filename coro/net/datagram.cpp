#include "datagram_state.hpp"

#include <weft/coro/tasks/sleep.hpp>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace weft::coro {

using State = DatagramSocket::State;

DatagramSocket::DatagramSocket() noexcept = default;
DatagramSocket::DatagramSocket(DatagramSocket&&) noexcept = default;
DatagramSocket& DatagramSocket::operator=(DatagramSocket&& other) noexcept {
    if (this == &other) return *this;
    close();
    state_ = std::move(other.state_);
    return *this;
}
DatagramSocket::~DatagramSocket() {
    close();
}
DatagramSocket::DatagramSocket(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

namespace {

template<class Make>
DatagramSocket make_socket(Make make) {
    auto state = std::make_shared<State>();
    state->transport = make(std::make_unique<detail::SocketProtocol>(state)).value().get();
    return DatagramSocket(std::move(state));
}

} // namespace

DatagramSocket DatagramSocket::bind(std::string_view address, const UdpOptions& options) {
    return make_socket([&](std::unique_ptr<DatagramProtocol> protocol) {
        return udp::bind(this_loop(), address, std::move(protocol), options);
    });
}

DatagramSocket DatagramSocket::connect(std::string_view peer, const UdpOptions& options) {
    return make_socket([&](std::unique_ptr<DatagramProtocol> protocol) {
        return udp::connect(this_loop(), peer, std::move(protocol), options);
    });
}

DatagramSocket DatagramSocket::bind(const Address& address, const UdpOptions& options) {
    return make_socket([&](std::unique_ptr<DatagramProtocol> protocol) {
        return udp::bind(this_loop(), address, std::move(protocol), options);
    });
}

DatagramSocket DatagramSocket::connect(const Address& peer, const UdpOptions& options) {
    return make_socket([&](std::unique_ptr<DatagramProtocol> protocol) {
        return udp::connect(this_loop(), peer, std::move(protocol), options);
    });
}

DatagramSocket DatagramSocket::adopt(int fd, const UdpOptions& options) {
    return make_socket([&](std::unique_ptr<DatagramProtocol> protocol) {
        return adopt_datagram_endpoint(this_loop(), fd, std::move(protocol), options);
    });
}

const std::shared_ptr<State>& DatagramSocket::state(const char* what) const {
    if (!state_)
        throw UsageError(std::string(what) +
                         ": the datagram socket is empty (default-constructed or moved from)");
    return state_;
}

namespace {

struct HandOn {
    State& state;
    ~HandOn() { state.hand_on(); }
};

} // namespace

Received DatagramSocket::recv_from(MutableBytes into, Deadline deadline) {
    const std::shared_ptr<State> state = this->state("recv_from");
    detail::Coroutine& self = detail::running("recv_from");
    self.scheduler.checkpoint(self);
    const HandOn hand_on{*state};
    state->wait_for_datagram(self, "recv_from", deadline);
    const auto copy = [&](const Datagram& datagram) {
        const std::size_t size = std::min(into.size(), datagram.data.size());
        if (size != 0) std::memcpy(into.data(), datagram.data.data(), size);
        return Received{size,
                        datagram.from,
                        datagram.to,
                        datagram.destination,
                        datagram.interface,
                        datagram.ecn,
                        datagram.truncated || size < datagram.data.size()};
    };
    state->show();
    if (!state->shows()) {
        Received received = copy(state->live.front());
        state->live = state->live.subspan(1);
        return received;
    }
    Received received = copy(state->shown->at(state->shown->first(), *state->transport));
    state->taken(1);
    return received;
}

DatagramBatch DatagramSocket::recv_batch(std::size_t most, Deadline deadline) {
    if (most == 0) throw UsageError("recv_batch: at most 0 datagrams are none");
    const std::shared_ptr<State> state = this->state("recv_batch");
    detail::Coroutine& self = detail::running("recv_batch");
    self.scheduler.checkpoint(self);
    const HandOn hand_on{*state};
    state->wait_for_datagram(self, "recv_batch", deadline);
    if (!state->shows()) {
        state->keep_live(); // the batch outlives the callback
        state->show();
    }
    const std::size_t count = std::min(most, state->shown->count());
    DatagramBatch batch(state->shown, state->shown->first(), count, *state->transport);
    state->taken(count);
    return batch;
}

DatagramBatch::DatagramBatch() noexcept = default;
DatagramBatch::DatagramBatch(DatagramBatch&& other) noexcept
    : kept_(std::move(other.kept_)), first_(other.first_), count_(std::exchange(other.count_, 0)),
      transport_(other.transport_) {}
DatagramBatch& DatagramBatch::operator=(DatagramBatch&& other) noexcept {
    kept_ = std::move(other.kept_);
    first_ = other.first_;
    count_ = std::exchange(other.count_, 0);
    transport_ = other.transport_;
    return *this;
}
DatagramBatch::~DatagramBatch() = default;
DatagramBatch::DatagramBatch(std::shared_ptr<const detail::KeptDatagrams> kept, std::size_t first,
                             std::size_t count, DatagramTransport& transport) noexcept
    : kept_(std::move(kept)), first_(first), count_(count), transport_(&transport) {}

Datagram DatagramBatch::operator[](std::size_t index) const noexcept {
    return kept_->at(first_ + index, *transport_);
}

template<class Send>
void DatagramSocket::send_when_room(const char* what, const Address* to, Deadline deadline,
                                    Send send) {
    const std::shared_ptr<State> state = this->state(what);
    detail::Coroutine& self = detail::running(what);
    self.scheduler.checkpoint(self);
    (void)state->connection(what);
    state->wait_for_room(self, what, deadline);
    DatagramTransport& transport = state->connection(what);
    if (to != nullptr) state->throw_send_error(what, to);
    send(transport);
}

void DatagramSocket::send_to(Bytes data, const Address& to, Deadline deadline) {
    send_when_room("send_to", &to, deadline,
                   [&](DatagramTransport& transport) { transport.send_to(data, to); });
}

void DatagramSocket::send_to(Bytes data, const Address& to,
                             const DatagramTransport::SendOptions& options, Deadline deadline) {
    send_when_room("send_to", &to, deadline,
                   [&](DatagramTransport& transport) { transport.send_to(data, to, options); });
}

void DatagramSocket::send(Bytes data, Deadline deadline) {
    const Address peer;
    send_when_room("send", &peer, deadline,
                   [&](DatagramTransport& transport) { transport.send(data); });
}

void DatagramSocket::send_batch(std::span<const Outgoing> batch, Deadline deadline) {
    const std::shared_ptr<State> state = this->state("send_batch");
    send_when_room("send_batch", nullptr, deadline, [&](DatagramTransport& transport) {
        for (const Outgoing& each : batch)
            state->throw_send_error("send_batch", &each.to);
        transport.send_batch(batch);
    });
}

void DatagramSocket::flush() {
    const std::shared_ptr<State> state = this->state("flush");
    state->connection("flush").flush();
    state->take_errors();
    (void)state->connection("flush");
    state->throw_send_error("flush", nullptr);
}

void DatagramSocket::drain(Deadline deadline) {
    const std::shared_ptr<State> state = this->state("drain");
    detail::Coroutine& self = detail::running("drain");
    self.scheduler.checkpoint(self);
    state->drain(deadline);
}

void DatagramSocket::set_queue_limits(std::size_t datagrams, std::size_t bytes) {
    if (datagrams == 0 || bytes == 0)
        throw UsageError("set_queue_limits: a limit of 0 lets nothing pass");
    state("set_queue_limits")->most_datagrams = datagrams;
    state_->most_bytes = bytes;
}

void DatagramSocket::close() noexcept {
    if (!state_ || state_->closed) return;
    if (state_->transport != nullptr) state_->transport->close();
    state_->end();
}

void DatagramSocket::abort() noexcept {
    if (!state_) return;
    if (state_->transport != nullptr) state_->transport->abort();
    if (!state_->closed) state_->end();
}

void DatagramSocket::wait_closed(Deadline deadline) {
    const std::shared_ptr<State> state = this->state("wait_closed");
    detail::Coroutine& self = detail::running("wait_closed");
    self.scheduler.checkpoint(self);
    state->wait_closed(self, deadline);
}

bool DatagramSocket::is_open() const noexcept {
    return state_ && !state_->closed && state_->transport != nullptr;
}

DatagramTransport* DatagramSocket::transport() const noexcept {
    return state_ ? state_->transport : nullptr;
}

Address DatagramSocket::local_address() const {
    const State& state = *this->state("local_address");
    return state.transport != nullptr ? state.transport->local_address() : Address();
}

Address DatagramSocket::peer_address() const {
    const State& state = *this->state("peer_address");
    return state.transport != nullptr ? state.transport->peer_address() : Address();
}

// --- A coroutine as a protocol's handler ---

namespace {

class HandledDatagrams final : public detail::SocketProtocol {
public:
    HandledDatagrams(Loop& loop, DatagramHandler handler, const SpawnOptions& options)
        : SocketProtocol(std::make_shared<State>()), loop_(loop), handler_(std::move(handler)),
          name_(options.name), stack_size_(options.stack_size) {}

    void connection_made(DatagramTransport& transport) override {
        state_->transport = &transport;
        auto task = spawn(loop_,
                          [socket = DatagramSocket(state_),
                           handler = std::move(handler_)]() mutable { handle(socket, handler); },
                          {.name = name_, .stack_size = stack_size_});
        task.detach();
    }

private:
    static void handle(DatagramSocket& socket, DatagramHandler& handler) {
        const auto failed = [&] {
            std::string what = "the handler of a datagram endpoint";
            if (socket.transport() != nullptr) what += ", " + socket.local_address().to_string();
            socket.abort();
            detail::running("datagram_protocol").scheduler.report_exception(what);
        };
        try {
            handler(socket);
        } catch (const Cancelled&) {
            socket.abort();
            throw;
        } catch (const std::system_error& error) {
            if (error.code() != Errc::closed) failed(); // that the endpoint is gone is no news
        } catch (...) {
            failed();
        }
    }

    Loop& loop_;
    DatagramHandler handler_;
    std::string name_;
    std::size_t stack_size_;
};

} // namespace

std::unique_ptr<DatagramProtocol> datagram_protocol(Loop& loop, DatagramHandler handler,
                                                    SpawnOptions options) {
    return std::make_unique<HandledDatagrams>(loop, std::move(handler), options);
}

} // namespace weft::coro
