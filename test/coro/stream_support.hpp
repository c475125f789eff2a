#pragma once

#include "coro_support.hpp"
#include "support/buffers.hpp"
#include "support/xor_transport.hpp"

#include <weft/reactor/loop_core.hpp>
#include <weft/reactor/sim/faulty_kernel.hpp>

#include <unistd.h>

/// What the tests of streams share.
namespace weft::test {

/// What a pair of streams is made over. To be made inside a coroutine.
struct LinkKind {
    const char* name;
    std::pair<coro::Stream, coro::Stream> (*make)();

    friend std::ostream& operator<<(std::ostream& out, const LinkKind& kind) {
        return out << kind.name;
    }
};

inline std::pair<coro::Stream, coro::Stream> connected_to(coro::Listener& listener,
                                                          const std::string& address,
                                                          const ConnectOptions& options = {}) {
    coro::Stream near = coro::connect(address, options);
    coro::Stream far = listener.accept();
    for (const coro::Stream* stream : {&near, &far})
        fix_buffers(weft::detail::core_of(coro::this_loop()).kernel(), stream->transport()->fd());
    return {std::move(near), std::move(far)};
}

inline std::pair<coro::Stream, coro::Stream> tcp_streams() {
    coro::Listener listener("127.0.0.1:0");
    return connected_to(listener, listener.addresses().front().to_string());
}

inline std::pair<coro::Stream, coro::Stream> unix_streams() {
    static int count = 0;
    const std::string name =
        "@weft-test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
    coro::Listener listener(name);
    return connected_to(listener, name);
}

/// The layer is there from the beginning.
inline std::pair<coro::Stream, coro::Stream> layered_tcp_streams() {
    coro::Listener listener("127.0.0.1:0", {.layer = layered<XorTransport>(1u)});
    return connected_to(listener, listener.addresses().front().to_string(),
                        {.layer = layered<XorTransport>(1u)});
}

/// The layers are put on a connection that stands.
inline std::pair<coro::Stream, coro::Stream> thrice_layered_streams() {
    auto [near, far] = coro::stream_pair();
    for (unsigned i = 1; i <= 3; ++i)
        for (coro::Stream* stream : {&near, &far})
            stream->add_layer(std::make_unique<XorTransport>(nullptr, i));
    return {std::move(near), std::move(far)};
}

inline std::vector<LinkKind> all_links() {
    return {{"tcp", &tcp_streams},
            {"unix", &unix_streams},
            {"memory", &coro::stream_pair},
            {"xor over tcp", &layered_tcp_streams},
            {"3 xor over memory", &thrice_layered_streams}};
}

/// Runs `body(near, far)` with two connected streams on every kernel and every kind of link.
template<class Body>
void on_every_link(Body body) {
    WEFT_TEST_KERNEL(all_kernels);
    const LinkKind link = GENERATE(from_range(all_links()));
    INFO("link: " << link.name);
    run_on(kernel_kind, [&] {
        auto [near, far] = link.make();
        body(near, far);
    });
}

/// A text in which every place is different.
inline std::string numbers(std::size_t size) {
    std::string text;
    for (std::size_t i = 0; text.size() < size; ++i)
        text += std::to_string(i) + ' ';
    text.resize(size);
    return text;
}

/// Lets everything that can happen without waiting happen.
inline void settle(int turns = 8) {
    for (int i = 0; i < turns; ++i)
        coro::yield();
}

/// The text of the exception that `call()` throws, empty if it throws none; others than `E` pass.
template<class E, class Call>
std::string text_thrown(Call&& call) {
    try {
        call();
    } catch (const E& error) {
        return error.what();
    }
    return {};
}

/// Whether `call()` throws a `std::system_error` with `code`.
template<class Code, class Call>
bool throws_code(Code code, Call&& call) {
    try {
        call();
    } catch (const std::system_error& error) {
        INFO(error.what());
        return error.code() == code;
    }
    return false;
}

inline bool contains(std::string_view text, std::string_view part) {
    return text.find(part) != text.npos;
}

/// `run_on` with a kernel that counts its calls and can fail them; `body(kernel)`.
template<class Body>
void run_on_faulty(const KernelKind& kind, Body&& body) {
    const ResourceGuard guard;
    coro::RunOptions options = options_on(kind);
    auto faulty = std::make_unique<sim::FaultyKernel>(std::move(options.loop.kernel));
    sim::FaultyKernel& kernel = *faulty;
    options.loop.kernel = std::move(faulty);
    coro::run([&] { body(kernel); }, std::move(options));
}

} // namespace weft::test
