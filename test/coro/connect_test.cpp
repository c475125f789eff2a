#include "stream_support.hpp"

#include <filesystem>

using namespace weft;
using namespace weft::test;

TEST_CASE("connect takes a text, an address, or a host and a port", "[s99][coro]") {
    WEFT_TEST_KERNEL(real_kernels);
    std::string folder = "/tmp/weft-test-XXXXXX";
    REQUIRE(mkdtemp(folder.data()) != nullptr);
    run_on(kernel_kind, [&] {
        coro::Listener tcp("127.0.0.1:0");
        coro::Listener path("unix:" + folder + "/socket");
        const Address to = tcp.addresses().front();
        CHECK(coro::connect(to.to_string()).peer_address() == to);
        CHECK(coro::connect(to).peer_address() == to);
        CHECK(coro::tcp::connect("127.0.0.1", tcp.port()).peer_address() == to);
        CHECK(coro::tcp::connect("localhost", tcp.port(), 1h).peer_address() == to);
        const Address there = path.addresses().front();
        CHECK(coro::connect(there.to_string()).is_open());
        CHECK(coro::connect(there).is_open());
        CHECK(coro::connect(folder + "/socket").is_open());
        // What a client may say of a target never leads to the Unix socket.
        for (const std::string& host : {folder + "/socket", there.to_string(), std::string("@name"),
                                        std::string("unix:@name"), std::string()}) {
            INFO(host);
            CHECK_THROWS_AS(coro::tcp::connect(host, tcp.port()), std::system_error);
        }
        CHECK_THROWS_AS(coro::tcp::connect("127.0.0.1", 65536), UsageError);
        CHECK_THROWS_AS(coro::tcp::connect("127.0.0.1", -1), UsageError);
        CHECK_THROWS_AS(coro::connect(Address()), std::system_error);
    });
    CHECK(std::filesystem::is_empty(folder));
    std::filesystem::remove_all(folder);
}
