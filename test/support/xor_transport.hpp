#pragma once

#include <weft/transports/layer/layered_transport.hpp>

#include <memory>
#include <utility>
#include <vector>

namespace weft::test {

/// The same for both directions: what one end changes the other changes back. Depends on the place
/// in the stream, so that nothing can be lost, repeated or exchanged unnoticed.
class XorStream {
public:
    explicit XorStream(unsigned key) noexcept : next_(key) {}
    const std::vector<std::byte>& crossed(Bytes data) {
        out_.assign(data.begin(), data.end());
        for (std::byte& byte : out_)
            byte ^= static_cast<std::byte>((next_ += 0x9E3779B1u) >> 24);
        return out_;
    }

private:
    unsigned next_;
    std::vector<std::byte> out_;
};

/// Changes every byte in both directions.
class XorTransport final : public LayeredTransport {
public:
    explicit XorTransport(std::unique_ptr<Protocol> above, unsigned key = 1)
        : LayeredTransport(std::move(above), Handles::both), in_(key), out_(key) {}

private:
    void received(Bytes data) override { deliver(in_.crossed(data)); }
    void send(Bytes data) override { below().write(out_.crossed(data)); }

    XorStream in_;
    XorStream out_;
};

/// Changes nothing: what every layer costs.
class PlainLayer final : public LayeredTransport {
public:
    explicit PlainLayer(std::unique_ptr<Protocol> above) : LayeredTransport(std::move(above)) {}
};

} // namespace weft::test
