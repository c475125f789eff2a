#include <weft/reactor/sim/faulty_kernel.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <stdexcept>
#include <sys/uio.h>
#include <utility>

namespace weft::sim {
namespace {

/// The name of an enumerator, as the compiler spells it: there is no second list.
template<Call call>
constexpr std::string_view spelling() noexcept {
    std::string_view text = __PRETTY_FUNCTION__; // "... = weft::sim::Call::send_batch; ...]"
    constexpr std::string_view type = "Call::";
    text.remove_prefix(text.find(type) + type.size());
    return text.substr(0, text.find_first_of(";]"));
}

template<std::size_t... numbers>
constexpr auto all_spellings(std::index_sequence<numbers...>) noexcept {
    return std::array{spelling<static_cast<Call>(numbers)>()...};
}

constexpr auto names = all_spellings(std::make_index_sequence<call_count>());
static_assert(names[0] == "now" && names[call_count - 1] == "resolve");

bool can_fail(Call call) noexcept {
    switch (call) {
    case Call::now:
    case Call::random:
    case Call::wake:
    case Call::outside_work:
    case Call::take_signals:
    case Call::close:
    case Call::kind_of:
    case Call::is_listening:
    case Call::look_at:
        return false;
    default:
        return true;
    }
}

bool has_limit(Call call) noexcept {
    return call == Call::recv || call == Call::send || call == Call::sendv ||
           call == Call::recv_batch || call == Call::send_batch;
}

[[noreturn]] void refuse(Call call, const char* why) {
    throw std::invalid_argument("FaultyKernel: " + std::string(name_of(call)) + ": " + why);
}

} // namespace

std::string_view name_of(Call call) noexcept {
    return names[static_cast<std::size_t>(call)];
}

FaultyKernel::FaultyKernel(std::unique_ptr<Kernel> inner) noexcept : inner_(std::move(inner)) {}
FaultyKernel::~FaultyKernel() = default;

void FaultyKernel::fail(Call call, int error_number, std::uint64_t nth, std::uint64_t times) {
    if (!can_fail(call)) refuse(call, "this call reports no errors");
    if (error_number <= 0) refuse(call, "an errno value is positive");
    if (nth == 0) refuse(call, "calls are counted from 1");
    Plan& planned = plan(call);
    planned.times = 0;
    planned.error = error_number;
    planned.before = nth - 1;
    planned.times = times;
}

void FaultyKernel::limit(Call call, std::size_t most) {
    if (!has_limit(call)) refuse(call, "this call moves nothing that could be limited");
    if (most == 0) refuse(call, "a limit of 0 would look like the end of the stream");
    plan(call).most = most;
}

void FaultyKernel::clear() noexcept {
    for (Plan& planned : plans_) {
        planned.times = 0;
        planned.most = SIZE_MAX;
    }
}

std::uint64_t FaultyKernel::calls(Call call) const noexcept {
    return plan(call).calls;
}
std::uint64_t FaultyKernel::failures(Call call) const noexcept {
    return plan(call).failures;
}

void FaultyKernel::reset_counts() noexcept {
    for (Plan& planned : plans_) {
        planned.calls = 0;
        planned.failures = 0;
    }
}

int FaultyKernel::enter(Call call) noexcept {
    Plan& planned = plan(call);
    ++planned.calls;
    if (planned.times == 0) [[likely]]
        return 0;
    if (planned.before > 0) {
        --planned.before;
        return 0;
    }
    --planned.times;
    ++planned.failures;
    return planned.error;
}

Sys FaultyKernel::add(int fd, Token token, Interest interest) noexcept {
    return forward(Call::add, [&] {
        const Sys result = inner_->add(fd, token, interest);
        if (!result.ok()) return result;
        try {
            registrations_[fd] = {token, interest};
        } catch (const std::bad_alloc&) {
            (void)inner_->remove(fd);
            return Sys::fail(ENOMEM);
        }
        return result;
    });
}
Sys FaultyKernel::modify(int fd, Token token, Interest interest) noexcept {
    return forward(Call::modify, [&] {
        const Sys result = inner_->modify(fd, token, interest);
        const auto found = registrations_.find(fd);
        if (result.ok() && found != registrations_.end()) found->second = {token, interest};
        return result;
    });
}
Sys FaultyKernel::remove(int fd) noexcept {
    return forward(Call::remove, [&] {
        registrations_.erase(fd);
        return inner_->remove(fd);
    });
}
Sys FaultyKernel::shortened(int fd, Sys result, bool limited) noexcept {
    if (limited && result.ok()) look_again(fd);
    return result;
}
void FaultyKernel::look_again(int fd) noexcept {
    const auto found = registrations_.find(fd);
    if (found != registrations_.end())
        (void)inner_->modify(fd, found->second.token, found->second.interest);
}
Sys FaultyKernel::reset() noexcept {
    return forward(Call::reset, [&] {
        registrations_.clear();
        return inner_->reset();
    });
}

Sys FaultyKernel::recv(int fd, void* data, std::size_t size) noexcept {
    const std::size_t most = plan(Call::recv).most;
    return forward_on(fd, Call::recv, [&] {
        return shortened(fd, inner_->recv(fd, data, std::min(size, most)), size > most);
    });
}
Sys FaultyKernel::send(int fd, const void* data, std::size_t size) noexcept {
    const std::size_t most = plan(Call::send).most;
    return forward_on(fd, Call::send, [&] {
        return shortened(fd, inner_->send(fd, data, std::min(size, most)), size > most);
    });
}
Sys FaultyKernel::sendv(int fd, const iovec* pieces, std::size_t count) noexcept {
    return forward_on(fd, Call::sendv, [&]() -> Sys {
        std::size_t left = plan(Call::sendv).most;
        if (left == SIZE_MAX) return inner_->sendv(fd, pieces, count);
        // The whole pieces within the limit, and if there is none, the start of the first that has
        // bytes.
        while (count > 0 && pieces->iov_len == 0) {
            ++pieces;
            --count;
        }
        if (count > 0 && pieces->iov_len > left)
            return shortened(fd, inner_->send(fd, pieces->iov_base, left), true);
        std::size_t whole = 0;
        while (whole < count && pieces[whole].iov_len <= left)
            left -= pieces[whole++].iov_len;
        return shortened(fd, inner_->sendv(fd, pieces, whole), whole < count);
    });
}
Sys FaultyKernel::send_file(int fd, int file, std::uint64_t offset, std::size_t size) noexcept {
    return forward_on(fd, Call::send_file,
                      [&] { return inner_->send_file(fd, file, offset, size); });
}
void FaultyKernel::close(int fd, bool reset) noexcept {
    enter(Call::close);
    registrations_.erase(fd);
    inner_->close(fd, reset);
}

Sys FaultyKernel::recv_batch(int fd, std::span<DatagramSlot> slots) noexcept {
    const std::size_t most = std::min(slots.size(), plan(Call::recv_batch).most);
    return forward_on(fd, Call::recv_batch, [&] {
        return shortened(fd, inner_->recv_batch(fd, slots.first(most)), most < slots.size());
    });
}
Sys FaultyKernel::send_batch(int fd, std::span<const OutDatagram> datagrams) noexcept {
    const std::size_t most = std::min(datagrams.size(), plan(Call::send_batch).most);
    return forward_on(fd, Call::send_batch, [&] {
        return shortened(fd, inner_->send_batch(fd, datagrams.first(most)),
                         most < datagrams.size());
    });
}

std::error_code FaultyKernel::resolve(const std::string& host, std::uint16_t port,
                                      std::vector<Address>& addresses) {
    if (const int error = enter(Call::resolve)) {
        addresses.clear();
        return errno_code(error);
    }
    return inner_->resolve(host, port, addresses);
}

} // namespace weft::sim
