#include "stream_support.hpp"

#include <weft/coro/tasks/task_state.hpp>
#include <weft/transports/server/server.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <unwind.h>
#include <vector>

using namespace weft;
using namespace weft::test;

namespace {

/// The function that `address` lies in, by its start.
const void* function_at(const void* address) {
    return _Unwind_FindEnclosingFunction(const_cast<void*>(address));
}

/// The functions on the stack, innermost first.
std::vector<const void*> functions_on_stack() {
    std::vector<const void*> functions;
    _Unwind_Backtrace(
        [](_Unwind_Context* context, void* into) {
            // The return address may be the first byte of the next function.
            auto* address = reinterpret_cast<const char*>(_Unwind_GetIP(context)) - 1;
            static_cast<std::vector<const void*>*>(into)->push_back(function_at(address));
            return _URC_NO_REASON;
        },
        &functions);
    return functions;
}

std::vector<const void*> seen_from_read_ready;

/// Is told of input as a stream is.
struct Told final : PullProtocol {
    void connection_made(Transport& made) override { transport = &made; }
    void read_ready() override;
    Transport* transport = nullptr;
};
[[gnu::noinline, maybe_unused]] void Told::read_ready() {
    seen_from_read_ready = functions_on_stack();
    transport->close();
}

[[gnu::noinline, maybe_unused]] void run_loop(Loop& loop) {
    loop.run();
    // Something after the call, so that it is no jump.
    CHECK(!loop.running());
}

/// Functions of the library between the loop's `run`, without it, and `read_ready`.
std::ptrdiff_t functions_before_read_ready() {
    Loop loop;
    auto server = tcp::listen(loop, "127.0.0.1:0", [] { return std::make_unique<Told>(); });
    REQUIRE(server.ok());
    auto client = coro::spawn(loop, [&] {
        coro::connect(server->addresses().front()).write("x");
        while (seen_from_read_ready.empty())
            coro::sleep(1ms);
        loop.stop();
    });
    seen_from_read_ready.clear();
    run_loop(loop);
    const auto here = std::find(seen_from_read_ready.begin(), seen_from_read_ready.end(),
                                reinterpret_cast<void*>(&run_loop));
    REQUIRE(here != seen_from_read_ready.end());
    // functions_on_stack() and read_ready come first, run last.
    return (here - seen_from_read_ready.begin()) - 3;
}

/// Whether `parked`, which reads, goes on inside of a function that begins at `function`.
bool goes_on_in(const coro::Task<void>& parked, const void* function) {
    // What a switch saves begins with the address of what comes after it.
    const void* place = nullptr;
    std::memcpy(&place, parked.state()->coroutine->resume_at, sizeof place);
    return function_at(place) == function;
}

/// Where a function begins that is a member and not virtual (Itanium C++ ABI, 2.3).
template<class Member>
const void* start_of(Member member) {
    const void* start = nullptr;
    std::memcpy(&start, &member, sizeof start);
    return start;
}

} // namespace

TEST_CASE("From the event to what has read there are five functions of the library at most",
          "[coro]") {
#if !defined(__OPTIMIZE__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) ||     \
    !defined(__x86_64__)
    WARN("skipped: this is a promise of optimized builds for x86-64 without sanitizers");
#else
    // Those before `read_ready`, that itself, which jumps to the coroutine, and there the function
    // that was called to read, in which it was parked.
    const auto before = functions_before_read_ready();
    INFO(before << " functions before read_ready");
    CHECK(before >= 1);
    CHECK(before + 2 <= 5);
    run_unshuffled_on(real_kernels().front(), [] {
        auto [near, far] = tcp_streams();
        std::size_t got = 0;
        auto some = coro::spawn([&, &stream = far] {
            std::array<std::byte, 16> buffer;
            got = stream.read_some(buffer);
        });
        coro::wait_all_blocked();
        CHECK(
            goes_on_in(some, start_of<std::size_t (coro::Stream::*)(MutableBytes, coro::Deadline)>(
                                 &coro::Stream::read_some)));
        near.write("x");
        some.join();
        CHECK(got == 1);
        auto block = coro::spawn([&, &stream = far] { got = stream.read().size(); });
        coro::wait_all_blocked();
        CHECK(goes_on_in(block,
                         start_of<Buffer (coro::Stream::*)(coro::Deadline)>(&coro::Stream::read)));
        near.write("xy");
        block.join();
        CHECK(got == 2);
    });
#endif
}
