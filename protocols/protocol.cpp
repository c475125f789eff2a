#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>

namespace weft {

void Protocol::idle_timeout(Transport& transport) {
    const auto reason = std::make_error_code(std::errc::timed_out);
    // What a peer has not taken in all that time it is not going to take.
    if (transport.write_buffer_size() == 0) {
        transport.close(reason);
    } else {
        transport.abort(reason);
    }
}

void Protocol::draining(Transport& transport) {
    transport.close();
}

void DatagramProtocol::datagrams_received(std::span<const Datagram> batch) {
    DatagramTransport& transport = batch.front().transport;
    for (std::size_t i = 0; i < batch.size(); ++i) {
        if (!transport.is_reading() || transport.has_unread())
            return transport.unread_rest(batch.subspan(i));
        datagram_received(batch[i]);
    }
}

} // namespace weft
