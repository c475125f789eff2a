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
    TimePoint now() noexcept override;
    void announce(bool on) noexcept override { inner_->announce(on); }
    bool announces() const noexcept override { return inner_->announces(); }
    void random(MutableBytes out) noexcept override;
    Sys add(int fd, Token token, Interest interest) noexcept override;
    Sys modify(int fd, Token token, Interest interest) noexcept override;
    Sys remove(int fd) noexcept override;
    Sys wait(std::span<Event> events, TimePoint deadline) noexcept override;
    void wake() noexcept override;
    Sys pollable_fd() noexcept override;
    Sys arm(TimePoint deadline) noexcept override;
    Sys reset() noexcept override;
    void inherited(int fd) override { inner_->inherited(fd); }
    bool owns(int fd) noexcept override { return inner_->owns(fd); }
    void outside_work(int change) noexcept override;
    Sys watch_signal(int number) noexcept override;
    Sys unwatch_signal(int number) noexcept override;
    std::uint64_t take_signals() noexcept override;
    Sys recv(int fd, void* data, std::size_t size) noexcept override;
    Sys send(int fd, const void* data, std::size_t size) noexcept override;
    Sys sendv(int fd, const iovec* pieces, std::size_t count) noexcept override;
    Sys send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept override;
    Sys shutdown_write(int fd) noexcept override;
    void close(int fd, bool reset = false) noexcept override;
    Sys socket(int family, int type, int protocol) noexcept override;
    Sys socketpair(int type, int (&fds)[2]) noexcept override;
    Sys bind(int fd, const Address& address) noexcept override;
    Sys listen(int fd, int backlog) noexcept override;
    Sys accept(int fd, Address& peer) noexcept override;
    Sys connect(int fd, const Address& address) noexcept override;
    Sys local_address(int fd, Address& address) noexcept override;
    Sys peer_address(int fd, Address& address) noexcept override;
    Sys set_option(int fd, int level, int name, const void* value,
                   std::size_t size) noexcept override;
    Sys get_option(int fd, int level, int name, void* value, std::size_t size) noexcept override;
    Sys peer_credentials(int fd, Credentials& credentials) noexcept override;
    Sys recv_batch(int fd, std::span<DatagramSlot> slots) noexcept override;
    Sys send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept override;
    Sys recv_error(int fd, Address& to) noexcept override;
    FileKind kind_of(int fd) noexcept override;
    bool alone() noexcept override { return inner_->alone(); }
    bool is_listening(int fd) noexcept override;
    Sys set_nonblocking(int fd) noexcept override;
    Sys open_reserve() noexcept override;
    FileInfo look_at(const std::string& path) noexcept override;
    Sys read_file(int file, std::uint64_t offset, void* data, std::size_t size) noexcept override;
    Sys unlink(const std::string& path) noexcept override;
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
