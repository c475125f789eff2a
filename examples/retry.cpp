// A request that is tried again when it fails or takes too long: retry. The server it asks, in the
// same program, hangs up on the first, ignores the second, and answers the third.

#include <weft/coro/coro.hpp>

#include <cstdio>
#include <string>

using namespace weft;
using namespace std::chrono_literals;

std::string ask(const std::string& address, std::string_view question) {
    coro::Stream server = coro::connect(address);
    server.write_all({question, "\n"});
    const auto answer = server.read_line();
    if (!answer) throw std::system_error(make_error_code(Errc::incomplete), address + " hung up");
    return std::string(*answer);
}

std::string ask_patiently(const std::string& address, std::string_view question) {
    int attempt = 0;
    return coro::retry({.attempts = 5, .pause = 10ms}, [&] {
        ++attempt;
        try {
            return coro::with_timeout(200ms, [&] { return ask(address, question); });
        } catch (const std::system_error& error) { // TimeoutError is one
            std::printf("attempt %d: %s\n", attempt, error.what());
            throw;
        }
    });
}

void moody_server(coro::Listener& listener) {
    (void)listener.accept();
    coro::Stream ignored = listener.accept();
    coro::Stream peer = listener.accept();
    if (peer.read_line()) peer.write("42\n");
}

int main() try {
    coro::run([] {
        coro::Listener listener("127.0.0.1:0");
        const auto server = coro::spawn([&] { moody_server(listener); });
        const auto address = listener.addresses().front().to_string();
        std::printf("the answer is %s\n", ask_patiently(address, "the question").c_str());
    });
} catch (const std::exception& error) {
    std::fprintf(stderr, "retry: %s\n", error.what());
    return 1;
}
