#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <cstring>
#include <string>
#include <vector>

namespace bench {

/// A kernel without a system behind it: peers that send the same message again and again and take
/// every answer. Nothing is ever looked up, and time moves only when a loop waits for a deadline,
/// so that what a program spends on it is the same in every run. Its functions are as short as they
/// can be, because their cost is counted as well.
///
/// The first listener gets `peers` connections. With `requests` above 0 each wait finds a message
/// on every connection, or `peers` datagrams on the first datagram socket.
class ScriptedKernel final : public weft::Kernel {
public:
    ScriptedKernel(std::string message, int peers) : message_(std::move(message)), peers_(peers) {}

    /// Waits from now on find this many requests in all.
    void script(std::uint64_t requests) noexcept { requests_ = requests; }

    std::string_view name() const noexcept override { return "scripted"; }
    weft::TimePoint now() noexcept override { return now_; }
    void random(weft::MutableBytes out) noexcept override {
        std::memset(out.data(), 1, out.size());
    }

    weft::Sys add(int fd, weft::Token token, weft::Interest) noexcept override {
        if (fd >= first_connection) {
            connections_[fd - first_connection] = {token, false};
        } else {
            server_ = token;
            connections_.resize(fd == listener ? peers_ : 0);
        }
        return 0;
    }
    weft::Sys modify(int, weft::Token, weft::Interest) noexcept override { return 0; }
    weft::Sys remove(int) noexcept override { return 0; }

    weft::Sys wait(std::span<weft::Event> events, weft::TimePoint deadline) noexcept override {
        if (accepted_ < connections_.size()) {
            events[0] = {server_, weft::ready::readable};
            return 1;
        }
        if (requests_ == 0) {
            if (deadline == weft::TimePoint::max()) return weft::Sys::fail(EDEADLK);
            if (deadline > now_) now_ = deadline;
            return 0;
        }
        if (connections_.empty()) { // a datagram socket, which is read until it is empty
            ready_datagrams_ = peers_;
            requests_ -= peers_;
            events[0] = {server_, weft::ready::readable};
            return 1;
        }
        std::size_t count = 0;
        for (Connection& connection : connections_) {
            connection.ready = true;
            events[count++] = {connection.token, weft::ready::readable};
        }
        requests_ -= count;
        return count;
    }
    void wake() noexcept override {}
    weft::Sys pollable_fd() noexcept override { return none(); }
    weft::Sys arm(weft::TimePoint) noexcept override { return none(); }
    weft::Sys reset() noexcept override { return none(); }

    weft::Sys recv(int fd, void* data, std::size_t) noexcept override {
        Connection& connection = connections_[fd - first_connection];
        if (!connection.ready) return weft::Sys::fail(EAGAIN);
        connection.ready = false;
        std::memcpy(data, message_.data(), message_.size());
        return message_.size();
    }
    weft::Sys send(int, const void*, std::size_t size) noexcept override { return size; }
    weft::Sys sendv(int, const iovec*, std::size_t) noexcept override { return none(); }
    weft::Sys shutdown_write(int) noexcept override { return 0; }
    void close(int, bool) noexcept override {}
    weft::Sys recv_batch(int, std::span<weft::DatagramSlot> slots) noexcept override {
        if (ready_datagrams_ == 0) return weft::Sys::fail(EAGAIN);
        std::size_t count = 0;
        for (; count < slots.size() && ready_datagrams_ > 0; ++count, --ready_datagrams_) {
            std::memcpy(slots[count].data, message_.data(), message_.size());
            slots[count].size = message_.size();
            slots[count].from = peer_;
        }
        return count;
    }
    weft::Sys send_batch(int, std::span<const weft::OutDatagram> out) noexcept override {
        return out.size();
    }
    weft::Sys recv_error(int, weft::Address&) noexcept override { return weft::Sys::fail(EAGAIN); }

    weft::Sys watch_signal(int) noexcept override { return none(); }
    weft::Sys unwatch_signal(int) noexcept override { return none(); }
    std::uint64_t take_signals() noexcept override { return 0; }
    weft::Sys socket(int, int type, int) noexcept override {
        return (type & 0xf) == stream_type ? listener : listener + 1;
    }
    weft::Sys socketpair(int, int (&)[2]) noexcept override { return none(); }
    weft::Sys bind(int, const weft::Address&) noexcept override { return 0; }
    weft::Sys listen(int, int) noexcept override { return 0; }
    weft::Sys accept(int, weft::Address& peer) noexcept override {
        if (accepted_ == connections_.size()) return weft::Sys::fail(EAGAIN);
        peer = peer_;
        return first_connection + static_cast<int>(accepted_++);
    }
    weft::Sys connect(int, const weft::Address&) noexcept override { return none(); }
    weft::Sys local_address(int, weft::Address& address) noexcept override {
        address = weft::Address::loopback_ipv4(1);
        return 0;
    }
    weft::Sys peer_address(int, weft::Address& address) noexcept override {
        address = peer_;
        return 0;
    }
    weft::Sys set_option(int, weft::SocketOption, int) noexcept override { return 0; }
    weft::Sys get_option(int, weft::SocketOption) noexcept override { return none(); }
    weft::Sys join_group(int, const weft::Address&, std::uint32_t,
                         const weft::Address*) noexcept override {
        return none();
    }
    weft::Sys leave_group(int, const weft::Address&, std::uint32_t,
                          const weft::Address*) noexcept override {
        return none();
    }
    weft::Sys peer_credentials(int, weft::Credentials&) noexcept override { return none(); }
    weft::FileKind kind_of(int) noexcept override { return weft::FileKind::stream_socket; }
    bool is_listening(int) noexcept override { return true; }
    weft::Sys set_nonblocking(int) noexcept override { return 0; }
    weft::Sys open_reserve() noexcept override { return none(); }
    weft::FileInfo look_at(const std::string&) noexcept override { return {}; }
    weft::Sys unlink(const std::string&) noexcept override { return none(); }
    std::error_code resolve(const std::string&, std::uint16_t,
                            std::vector<weft::Address>&) override {
        return none().code();
    }

private:
    struct Connection {
        weft::Token token = 0;
        bool ready = false;
    };

    static weft::Sys none() noexcept { return weft::Sys::fail(ENOTSUP); }

    static constexpr int stream_type = 1; // SOCK_STREAM
    static constexpr int listener = 3;
    static constexpr int first_connection = 10;

    const std::string message_;
    const int peers_;
    const weft::Address peer_ = weft::Address::loopback_ipv4(4711);
    weft::TimePoint now_{std::chrono::seconds(1)};
    weft::Token server_ = 0;
    std::vector<Connection> connections_;
    std::size_t accepted_ = 0;
    std::uint64_t requests_ = 0;
    int ready_datagrams_ = 0;
};

} // namespace bench
