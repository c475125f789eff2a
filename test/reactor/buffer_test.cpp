#include "support/kernels.hpp"

#include <weft/reactor/buffer.hpp>
#include <weft/reactor/buffer_pool.hpp>

#include <catch2/catch.hpp>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using namespace weft;
using namespace weft::test;

namespace {

std::string string_in(const Buffer& buffer) {
    return std::string(buffer.text());
}

struct Pool {
    detail::BlockPool* pool = detail::BlockPool::make();
    Pool() { pool->enter(); }
    ~Pool() { pool->close(); }
    detail::BlockPool* operator->() const noexcept { return pool; }
};

} // namespace

TEST_CASE("A buffer owns what it was made of, without a copy") {
    std::string text(1000, 'x');
    const char* const at = text.data();
    Buffer buffer(std::move(text));
    CHECK(reinterpret_cast<const char*>(buffer.data()) == at);
    CHECK(buffer.size() == 1000);
    std::vector<std::byte> bytes(100, std::byte{7});
    const std::byte* const where = bytes.data();
    Buffer other(std::move(bytes));
    CHECK(other.data() == where);
    CHECK(!Buffer(std::string()));
    CHECK(!Buffer(std::vector<char>()));
    const auto constant = std::make_shared<const std::string>("shared by many");
    {
        Buffer shared = Buffer::shared(constant);
        CHECK(constant.use_count() == 2);
        CHECK(shared.text().data() == constant->data());
        CHECK_THROWS_AS(shared.writable(), UsageError);
    }
    CHECK(constant.use_count() == 1);
    Buffer literal = Buffer::unowned(bytes_of("a literal"));
    CHECK(!literal.owned());
    CHECK_THROWS_AS(literal.writable(), UsageError);
}

TEST_CASE("A moved-from buffer is empty, and moving onto one frees what it had") {
    const auto first = std::make_shared<const std::string>("first");
    Buffer a = Buffer::shared(first);
    Buffer b = std::move(a);
    CHECK(!a);
    CHECK(string_in(b) == "first");
    b = Buffer::copy(bytes_of("second"));
    CHECK(first.use_count() == 1);
    CHECK(string_in(b) == "second");
    Buffer& same = b;
    b = std::move(same);
    CHECK(string_in(b) == "second");
}

TEST_CASE("Parts of a buffer share its block, and are written to only when nobody else shows it") {
    Buffer whole = Buffer::copy(bytes_of("0123456789"));
    Buffer front = whole.take(4);
    CHECK(string_in(front) == "0123");
    CHECK(string_in(whole) == "456789");
    CHECK_THROWS_AS(whole.writable(), UsageError);
    front = {};
    CHECK(whole.unique());
    whole.writable()[0] = std::byte{'x'};
    CHECK(string_in(whole.share(0, 2)) == "x5");
    CHECK(string_in(whole.share(4, 100)) == "89");
    CHECK(!whole.share(6, 1));
    CHECK(!whole.share(100, 1));
    whole.remove_prefix(1);
    whole.truncate(2);
    CHECK(string_in(whole) == "56");
    Buffer all = whole.take(100);
    CHECK(!whole);
    CHECK(string_in(all) == "56");
    all.remove_prefix(100);
    CHECK(!all);
}

TEST_CASE("A pool gives the block out again that was freed last") {
    Pool pool;
    Buffer first = pool->take();
    Buffer second = pool->take();
    CHECK(pool->out() == 2);
    CHECK(first.size() == detail::BlockPool::block_size);
    CHECK(reinterpret_cast<std::uintptr_t>(first.data()) % 64 == 0);
    const std::byte* const at = first.data();
    first = {};
    second = {};
    first = pool->take();
    CHECK(first.data() != at);
    second = pool->take();
    CHECK(second.data() == at);
}

TEST_CASE("Large blocks are kept apart from the others") {
    Pool pool;
    Buffer large = pool->take_large();
    CHECK(large.size() == detail::BlockPool::large_size);
    std::memset(large.writable().data(), 1, large.size());
    const std::byte* const at = large.data();
    large = {};
    Buffer small = pool->take();
    CHECK(small.data() != at);
    large = pool->take_large();
    CHECK(large.data() == at);
    CHECK(pool->out() == 2);
}

TEST_CASE("Blocks that nobody has needed for a while go back to the system") {
    Pool pool;
    std::vector<Buffer> burst;
    for (int i = 0; i < 100; ++i)
        burst.push_back(pool->take());
    burst.clear();
    CHECK(pool->kept() == 100);
    CHECK(pool->wants_trim());
    pool->trim(); // of the time before it knows that all were needed
    pool->trim();
    CHECK(pool->kept() <= 4);
    CHECK(!pool->wants_trim());
}

TEST_CASE("Blocks are freed on other threads, and after their pool") {
    Pool pool;
    std::vector<Buffer> buffers;
    for (int i = 0; i < 10; ++i) {
        buffers.push_back(pool->take());
        buffers.push_back(buffers.back().share());
    }
    std::vector<Buffer> later;
    for (int i = 0; i < 5; ++i)
        later.push_back(pool->take());
    std::thread([gone = std::move(buffers)]() mutable { gone.clear(); }).join();
    CHECK(pool->wants_trim());
    for (int i = 0; i < 10; ++i)
        later.push_back(pool->take()); // those that came back
    CHECK(pool->out() == 15);
    detail::BlockPool* const closed = std::exchange(pool.pool, detail::BlockPool::make());
    closed->close();
    std::thread([half = std::vector<Buffer>(std::make_move_iterator(later.begin()),
                                            std::make_move_iterator(later.begin() + 7))] {
    }).join();
    std::memset(later.back().writable().data(), 1, later.back().size());
}

TEST_CASE("Threads free blocks while the pool's own gives out others and closes") {
    for (int round = 0; round < 50; ++round) {
        detail::BlockPool* const pool = detail::BlockPool::make();
        pool->enter();
        std::vector<Buffer> mine[2];
        for (int i = 0; i < 40; ++i)
            mine[i % 2].push_back(pool->take());
        std::thread a([&] { mine[0].clear(); });
        std::thread b([&] { mine[1].clear(); });
        for (int i = 0; i < 40; ++i)
            Buffer block = pool->take();
        pool->close();
        a.join();
        b.join();
    }
}
