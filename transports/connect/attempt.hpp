#pragma once

#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/source.hpp>
#include <weft/transports/connect/connect.hpp>

#include <memory>
#include <utility>

namespace weft::detail {

class Connecting;

/// One socket on its way to one address.
class Attempt final : public Source {
public:
    Attempt(std::shared_ptr<Connecting> owner, LoopCore& core, const Address& to);
    ~Attempt();
    /// Starts it. An error means that it is over already.
    std::error_code start(const ConnectOptions& options);
    const Address& address() const noexcept { return address_; }
    /// The connected socket, registered under `token()`, is the caller's now.
    int release() noexcept { return std::exchange(fd_, -1); }
    Token token() const noexcept { return token_; }

    void on_ready(std::uint32_t ready) override;
    void on_loop_closing() override;
    Registration registration() const noexcept override { return {fd_, Interest::stream}; }

private:
    std::error_code outcome() noexcept;

    std::shared_ptr<Connecting> owner_;
    LoopCore& core_;
    Address address_;
    int fd_ = -1;
    bool borrowed_ = false; // the user's socket: never closed here
    bool registered_ = false;
    Token token_;
};

} // namespace weft::detail
