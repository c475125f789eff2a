#pragma once

#include "attempt.hpp"

#include <weft/protocols/protocol.hpp>
#include <weft/protocols/transport.hpp>
#include <weft/reactor/future.hpp>
#include <weft/reactor/loop.hpp>

#include <memory>
#include <string>
#include <vector>

namespace weft::detail {

/// The whole of a connect call. Kept alive by its attempts, its timers and its look-up.
class Connecting final : public std::enable_shared_from_this<Connecting> {
public:
    Connecting(Loop& loop, std::string target, std::unique_ptr<Protocol> protocol,
               const ConnectOptions& options)
        : loop_(loop), target_(std::move(target)), protocol_(std::move(protocol)),
          options_(options), promise_(loop) {}
    ~Connecting();

    Future<TransportRef> begin();
    void try_addresses(std::vector<Address> addresses);
    void look_up(const std::string& host, std::uint16_t port);
    void fail(const Error& error);

    // For attempts.
    void connected(Attempt& attempt, std::uint32_t ready);
    void failed(Attempt& attempt, std::error_code error);

private:
    void next_attempt();
    bool may_try_another() const noexcept;
    void keep_family(Address::Family family);
    void note_failure(const Address& address, std::error_code error);
    void note(const Address& address, const std::string& what);
    void timed_out();
    void wait_until_open(TransportRef below, TimePoint limit);
    void end() noexcept;
    bool over() const noexcept { return protocol_ == nullptr; }

    Loop& loop_;
    std::string target_;
    std::unique_ptr<Protocol> protocol_; // null once it is over
    ConnectOptions options_;
    Promise<TransportRef> promise_;
    std::vector<Address> addresses_;
    std::size_t next_ = 0;
    std::vector<std::unique_ptr<Attempt>> attempts_;
    std::string failures_;
    std::error_code first_error_;
    Timer deadline_;
    Timer stagger_;
    Future<std::vector<Address>> look_up_;
    Future<TransportRef> opened_; // of a layer
};

} // namespace weft::detail
