#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>

namespace weft {

void Protocol::idle_timeout(Transport& transport) {
    transport.abort(std::make_error_code(std::errc::timed_out));
}

void Protocol::draining(Transport& transport) { transport.close(); }

void DatagramProtocol::datagrams_received(std::span<const Datagram> batch) {
    for (const Datagram& datagram : batch) datagram_received(datagram);
}

} // namespace weft
