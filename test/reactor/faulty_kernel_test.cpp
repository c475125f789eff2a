#include "kernel_support.hpp"

#include <weft/reactor/sim/faulty_kernel.hpp>

#include <sys/uio.h>

using namespace kernel_test;
using weft::sim::Call;
using weft::sim::FaultyKernel;

TEST_CASE("A faulty kernel fails the calls it was told to, and only those") {
    FaultyKernel kernel(every_kernel()());
    kernel.fail(Call::socketpair, EMFILE, 2, 2);
    int fds[2];
    for (const int expected : {0, EMFILE, EMFILE, 0}) {
        const auto result = kernel.socketpair(SOCK_STREAM, fds);
        CHECK(result.error() == expected);
        if (!result.ok()) continue;
        kernel.close(fds[0]);
        kernel.close(fds[1]);
    }
    CHECK(kernel.calls(Call::socketpair) == 4);
    CHECK(kernel.failures(Call::socketpair) == 2);
    CHECK(kernel.calls(Call::close) == 4);
    kernel.reset_counts();
    CHECK(kernel.calls(Call::socketpair) == 0);
    kernel.fail(Call::socketpair, EMFILE);
    kernel.clear();
    REQUIRE(kernel.socketpair(SOCK_STREAM, fds).ok());
    kernel.close(fds[0]);
    kernel.close(fds[1]);
}

TEST_CASE("A faulty kernel fails name look-ups with the errno") {
    FaultyKernel kernel(every_kernel()());
    std::vector<Address> found(1);
    kernel.fail(Call::resolve, ETIMEDOUT);
    CHECK(kernel.resolve("127.0.0.1", 80, found) == std::errc::timed_out);
    CHECK(found.empty());
    CHECK(!kernel.resolve("127.0.0.1", 80, found));
    CHECK(found.size() == 1);
}

TEST_CASE("A faulty kernel shortens receives and sends, inside and between pieces [F16]") {
    FaultyKernel kernel(every_kernel()());
    Pair pair = unix_pair(kernel);
    kernel.limit(Call::send, 2);
    CHECK(put_text(kernel, pair.near, "abcdef") == 2);
    kernel.limit(Call::send, SIZE_MAX);
    CHECK(put_text(kernel, pair.near, "cdef") == 4);
    kernel.limit(Call::recv, 3);
    CHECK(got_text(kernel, pair.far) == "abc");
    CHECK(got_text(kernel, pair.far) == "def");

    kernel.limit(Call::sendv, 5);
    char text[] = "ghijklmnop";
    const iovec pieces[] = {{text, 0}, {text, 3}, {text + 3, 0}, {text + 3, 1}, {text + 4, 6}};
    CHECK(kernel.sendv(pair.near, pieces, 5).count() == 4);
    CHECK(kernel.sendv(pair.near, pieces + 4, 1).count() == 5);
    kernel.clear();
    CHECK(got_text(kernel, pair.far) == "ghijklmno");
}

TEST_CASE(
    "What a shortened call leaves behind is reported again to an edge-triggered registration") {
    FaultyKernel kernel(every_kernel()());
    Pair pair = unix_pair(kernel);
    REQUIRE(kernel.add(pair.near, 1, Interest::stream).ok());
    kernel.limit(Call::recv, 2);
    kernel.limit(Call::send, 2);
    CHECK(put_text(kernel, pair.far, "abc") == 2);
    CHECK((look(kernel, 1) & weft::ready::readable) != 0);
    CHECK(look(kernel, 1) == 0);
    CHECK(got_text(kernel, pair.near) == "ab");
    CHECK((look(kernel, 1) & weft::ready::writable) != 0);
    CHECK(put_text(kernel, pair.near, "def") == 2);
    CHECK((look(kernel, 1) & weft::ready::writable) != 0);
    CHECK(look(kernel, 1) == 0);
    CHECK(kernel.calls(Call::modify) == 0);
}

TEST_CASE("A faulty kernel refuses plans that could not come true") {
    FaultyKernel kernel(every_kernel()());
    CHECK_THROWS_WITH(kernel.fail(Call::close, EIO), Catch::Matchers::Contains("close"));
    CHECK_THROWS_AS(kernel.fail(Call::recv, 0), std::invalid_argument);
    CHECK_THROWS_AS(kernel.fail(Call::recv, EIO, 0), std::invalid_argument);
    CHECK_THROWS_WITH(kernel.limit(Call::accept, 1), Catch::Matchers::Contains("accept"));
    CHECK_THROWS_AS(kernel.limit(Call::recv, 0), std::invalid_argument);
}
