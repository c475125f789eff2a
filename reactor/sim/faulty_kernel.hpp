#pragma once

#include <weft/reactor/kernel/kernel.hpp>

#include <array>
#include <atomic>
#include <memory>
#include <unordered_map>

#pragma GCC visibility push(default)

namespace weft::sim {

/// The calls of a `Kernel`, by the names of its functions.
enum class Call : std::uint8_t {
    now,
    random,
    add,
    modify,
    remove,
    wait,
    wake,
    pollable_fd,
    arm,
    reset,
    outside_work,
    watch_signal,
    unwatch_signal,
    take_signals,
    recv,
    send,
    sendv,
    send_file,
    shutdown_write,
    close,
    socket,
    socketpair,
    bind,
    listen,
    accept,
    connect,
    local_address,
    peer_address,
    set_option,
    get_option,
    join_group,
    leave_group,
    peer_credentials,
    recv_batch,
    send_batch,
    recv_error,
    kind_of,
    is_listening,
    set_nonblocking,
    open_reserve,
    look_at,
    unlink,
    read_file,
    resolve,
};

/// How many calls there are.
inline constexpr std::size_t call_count = static_cast<std::size_t>(Call::resolve) + 1;

/// The function's name, "send_batch".
std::string_view name_of(Call call) noexcept;

/// Another kernel whose calls can be made to fail or to move fewer bytes, and are counted: for
/// tests of what a program does when the system says no. A call that is made to fail does not reach
/// the inner kernel.
///
/// `fail`, `limit` and `clear` belong to the loop's thread, as most calls do; counts may be read on
/// any.
class FaultyKernel : public Kernel {
public:
    /// Takes over `inner`, which must not be null.
    explicit FaultyKernel(std::unique_ptr<Kernel> inner) noexcept;
    ~FaultyKernel() override;

    /// Makes the `nth` call of its kind from now on, and the `times - 1` after it, report
    /// `error_number`. Replaces what was planned for the call before. Throws
    /// `std::invalid_argument` for a call that cannot fail (`now`, `close` and so on), an
    /// `error_number` that is not positive and `nth` 0. After an EAGAIN that was made up for a call
    /// that moves bytes, the descriptor's state is reported anew, also to an edge-triggered
    /// registration: its owner has every right to wait for that.
    void fail(Call call, int error_number, std::uint64_t nth = 1, std::uint64_t times = 1);
    /// Lets `recv`, `send` and `sendv` move at most `most` bytes per call, `recv_batch` and
    /// `send_batch` at most `most` datagrams; `SIZE_MAX` lifts it. Throws `std::invalid_argument`
    /// for other calls and for 0, which would look like the end of a stream. What a shortened call
    /// left behind is reported as ready again, also to an edge-triggered registration: to its owner
    /// the call looked like one that met the end.
    void limit(Call call, std::size_t most);
    /// Calls off all failures and limits.
    void clear() noexcept;

    /// How often `call` was made, failed ones included, since the start or the last `reset_counts`.
    std::uint64_t calls(Call call) const noexcept;
    /// How often it was made to fail.
    std::uint64_t failures(Call call) const noexcept;
    void reset_counts() noexcept;

    /// The kernel that does the work. Owned by this one.
    Kernel& inner() noexcept { return *inner_; }

    std::string_view name() const noexcept override { return inner_->name(); }
    TimePoint now() noexcept override {
        enter(Call::now);
        return inner_->now();
    }
    void announce(bool on) noexcept override { inner_->announce(on); }
    bool announces() const noexcept override { return inner_->announces(); }
    void random(MutableBytes out) noexcept override {
        enter(Call::random);
        inner_->random(out);
    }
    Sys add(int fd, Token token, Interest interest) noexcept override;
    Sys modify(int fd, Token token, Interest interest) noexcept override;
    Sys remove(int fd) noexcept override;
    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override {
        return forward(Call::wait, [&] { return inner_->wait(events, deadline); });
    }
    void wake() noexcept override {
        enter(Call::wake);
        inner_->wake();
    }
    Sys pollable_fd() noexcept override {
        return forward(Call::pollable_fd, [&] { return inner_->pollable_fd(); });
    }
    Sys arm(TimePoint deadline) noexcept override {
        return forward(Call::arm, [&] { return inner_->arm(deadline); });
    }
    Sys reset() noexcept override;
    void inherited(int fd) override { inner_->inherited(fd); }
    bool owns(int fd) noexcept override { return inner_->owns(fd); }
    void outside_work(int change) noexcept override {
        enter(Call::outside_work);
        inner_->outside_work(change);
    }
    Sys watch_signal(int number) noexcept override {
        return forward(Call::watch_signal, [&] { return inner_->watch_signal(number); });
    }
    Sys unwatch_signal(int number) noexcept override {
        return forward(Call::unwatch_signal, [&] { return inner_->unwatch_signal(number); });
    }
    std::uint64_t take_signals() noexcept override {
        enter(Call::take_signals);
        return inner_->take_signals();
    }
    Sys recv(int fd, void* data, std::size_t size) noexcept override;
    Sys send(int fd, const void* data, std::size_t size) noexcept override;
    Sys sendv(int fd, const iovec* pieces, std::size_t count) noexcept override;
    Sys send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept override;
    Sys shutdown_write(int fd) noexcept override {
        return forward(Call::shutdown_write, [&] { return inner_->shutdown_write(fd); });
    }
    void close(int fd, bool reset = false) noexcept override;
    Sys socket(int family, int type, int protocol) noexcept override {
        return forward(Call::socket, [&] { return inner_->socket(family, type, protocol); });
    }
    Sys socketpair(int type, int (&fds)[2]) noexcept override {
        return forward(Call::socketpair, [&] { return inner_->socketpair(type, fds); });
    }
    Sys bind(int fd, const Address& address) noexcept override {
        return forward(Call::bind, [&] { return inner_->bind(fd, address); });
    }
    Sys listen(int fd, int backlog) noexcept override {
        return forward(Call::listen, [&] { return inner_->listen(fd, backlog); });
    }
    Sys accept(int fd, Address& peer) noexcept override {
        return forward(Call::accept, [&] { return inner_->accept(fd, peer); });
    }
    Sys connect(int fd, const Address& address) noexcept override {
        return forward(Call::connect, [&] { return inner_->connect(fd, address); });
    }
    Sys local_address(int fd, Address& address) noexcept override {
        return forward(Call::local_address, [&] { return inner_->local_address(fd, address); });
    }
    Sys peer_address(int fd, Address& address) noexcept override {
        return forward(Call::peer_address, [&] { return inner_->peer_address(fd, address); });
    }
    Sys set_option(int fd, SocketOption option, int value) noexcept override {
        return forward(Call::set_option, [&] { return inner_->set_option(fd, option, value); });
    }
    Sys get_option(int fd, SocketOption option) noexcept override {
        return forward(Call::get_option, [&] { return inner_->get_option(fd, option); });
    }
    Sys join_group(int fd, const Address& group, std::uint32_t interface,
                   const Address* source) noexcept override {
        return forward(Call::join_group,
                       [&] { return inner_->join_group(fd, group, interface, source); });
    }
    Sys leave_group(int fd, const Address& group, std::uint32_t interface,
                    const Address* source) noexcept override {
        return forward(Call::leave_group,
                       [&] { return inner_->leave_group(fd, group, interface, source); });
    }
    Sys peer_credentials(int fd, Credentials& credentials) noexcept override {
        return forward(Call::peer_credentials,
                       [&] { return inner_->peer_credentials(fd, credentials); });
    }
    Sys recv_batch(int fd, std::span<DatagramSlot> slots) noexcept override;
    Sys send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept override;
    Sys recv_error(int fd, Address& to) noexcept override {
        return forward(Call::recv_error, [&] { return inner_->recv_error(fd, to); });
    }
    FileKind kind_of(int fd) noexcept override {
        enter(Call::kind_of);
        return inner_->kind_of(fd);
    }
    bool alone() noexcept override { return inner_->alone(); }
    bool is_listening(int fd) noexcept override {
        enter(Call::is_listening);
        return inner_->is_listening(fd);
    }
    Sys set_nonblocking(int fd) noexcept override {
        return forward(Call::set_nonblocking, [&] { return inner_->set_nonblocking(fd); });
    }
    Sys open_reserve() noexcept override {
        return forward(Call::open_reserve, [&] { return inner_->open_reserve(); });
    }
    FileInfo look_at(const std::string& path) noexcept override {
        enter(Call::look_at);
        return inner_->look_at(path);
    }
    Sys read_file(int file, std::uint64_t offset, void* data, std::size_t size) noexcept override {
        return forward(Call::read_file,
                       [&] { return inner_->read_file(file, offset, data, size); });
    }
    Sys unlink(const std::string& path) noexcept override {
        return forward(Call::unlink, [&] { return inner_->unlink(path); });
    }
    Sys access_mode(int fd) noexcept override { return inner_->access_mode(fd); }
    std::string absolute(const std::string& path) override { return inner_->absolute(path); }
    Sys lock_folder(const std::string& path) noexcept override { return inner_->lock_folder(path); }
    std::error_code resolve(const std::string& host, std::uint16_t port,
                            std::vector<Address>& addresses) override;

private:
    // Atomic because `wake`, `outside_work` and `resolve` come from other threads.
    struct Plan {
        std::atomic<std::uint64_t> calls{0};
        std::atomic<std::uint64_t> failures{0};
        std::atomic<std::uint64_t> before{
            0}; ///< calls that still go through before the first failure
        std::atomic<std::uint64_t> times{0}; ///< failures that are left
        std::atomic<int> error{0};
        std::size_t most = SIZE_MAX;
    };

    Plan& plan(Call call) noexcept { return plans_[static_cast<std::size_t>(call)]; }
    const Plan& plan(Call call) const noexcept { return plans_[static_cast<std::size_t>(call)]; }
    /// Counts a call; the errno it has to fail with, or 0.
    int enter(Call call) noexcept;

    template<class Forward>
    Sys forward(Call call, Forward forward) noexcept {
        if (const int error = enter(call)) return Sys::fail(error);
        return forward();
    }

    template<class Forward>
    Sys forward_on(int fd, Call call, Forward forward) noexcept {
        const int error = enter(call);
        if (error == 0) return forward();
        const Sys failed = Sys::fail(error);
        if (failed.would_block()) look_again(fd);
        return failed;
    }

    /// Has the state of `fd` reported anew.
    void look_again(int fd) noexcept;
    /// The same after a call that was shortened.
    Sys shortened(int fd, Sys result, bool limited) noexcept;

    struct Registration {
        Token token;
        Interest interest;
    };

    std::unique_ptr<Kernel> inner_;
    std::unordered_map<int, Registration> registrations_;
    std::array<Plan, call_count> plans_;
};

} // namespace weft::sim

#pragma GCC visibility pop
