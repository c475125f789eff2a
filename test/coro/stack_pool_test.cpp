#include "coro_support.hpp"
#include "support/child.hpp"
#include "support/heap.hpp"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <fstream>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <regex>
#include <set>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

using namespace weft;
using namespace weft::test;
using coro::detail::Guard;
using coro::detail::Stack;
using coro::detail::StackPool;

namespace {

constexpr std::size_t kib = 1024;

std::size_t mappings() {
    std::ifstream maps("/proc/self/maps");
    std::size_t count = 0;
    for (std::string line; std::getline(maps, line);)
        ++count;
    return count;
}

/// Bytes of address space.
std::size_t address_space() {
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// Whether the page at `address` takes memory.
bool resident(const std::byte* address) {
    auto at = reinterpret_cast<std::uintptr_t>(address);
    at &= ~static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE) - 1);
    unsigned char state = 0;
    REQUIRE(::mincore(reinterpret_cast<void*>(at), 1, &state) == 0);
    return (state & 1) != 0;
}

void touch(const Stack& stack) {
    *const_cast<volatile std::byte*>(stack.bottom) = std::byte{1};
    *const_cast<volatile std::byte*>(stack.top - 1) = std::byte{1};
}

/// From now on MADV_GUARD_INSTALL is an EINVAL, as with locked memory and old kernels. False if
/// that can not be arranged.
bool refuse_guard_markers() {
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args) + 2 * 8),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 102, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{std::size(code), code};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

bool writing_kills(std::byte* address) {
    return in_child([address] {
               std::signal(SIGSEGV, SIG_DFL);
               *const_cast<volatile std::byte*>(address) = std::byte{1};
               return 0;
           })
        .died_of(SIGSEGV);
}

} // namespace

TEST_CASE("stacks come in powers of two with a guard below, and all of them is usable",
          "[F37][coro]") {
    const Guard guard = GENERATE(Guard::automatic, Guard::protect);
    StackPool pool(guard);
    for (const std::size_t size : {std::size_t{1}, 16 * kib, 40 * kib, 64 * kib, 1024 * kib}) {
        const Stack stack = pool.take(size);
        const std::size_t whole = StackPool::rounded(size);
        CHECK(whole >= std::max(size, 16 * kib));
        CHECK(stack.usable() > whole - 1 * kib - 1);
        CHECK(stack.usable() <= whole);
        CHECK(reinterpret_cast<std::uintptr_t>(stack.top) % 64 == 0);
        touch(stack);
        CHECK(writing_kills(stack.bottom - 1));
        CHECK(pool.guarded_top(stack.bottom - 1) == stack.top);
        CHECK(pool.guarded_top(stack.bottom) == nullptr);
        CHECK(pool.guarded_top(&pool) == nullptr);
        pool.give_back(stack);
    }
}

TEST_CASE("the guards are markers where the kernel has them, without a mapping for each",
          "[F38][coro]") {
#if defined(__SANITIZE_THREAD__)
    WARN("left out under ThreadSanitizer, which maps memory of its own for each stack");
    return;
#endif
    StackPool pool;
    const bool has_markers = [] {
        void* page =
            ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        const bool works = ::madvise(page, 4096, 102) == 0;
        ::munmap(page, 4096);
        return works;
    }();
    CHECK(pool.guard() == (has_markers ? Guard::marker : Guard::protect));
    if (!has_markers) return;
    (void)mappings(); // what allocators map for it they keep
    const std::size_t before = mappings();
    std::vector<Stack> stacks;
    stacks.reserve(5000);
    for (int i = 0; i < 5000; ++i)
        stacks.push_back(pool.take(64 * kib));
    // Some 8 for the stacks, and what sanitizers map for the pool's tables.
    CHECK(mappings() < before + 100);
    CHECK(pool.stats().guards_by_protection == 0);
    for (const Stack& stack : stacks)
        pool.give_back(stack);
}

TEST_CASE("the stack given back last is given out first, and beginnings are spread over the caches",
          "[coro]") {
    StackPool pool;
    std::vector<Stack> stacks;
    std::set<std::uintptr_t> colours;
    for (int i = 0; i < 32; ++i) {
        stacks.push_back(pool.take(64 * kib));
        const auto top = reinterpret_cast<std::uintptr_t>(stacks.back().top);
        CHECK(top % 64 == 0);
        colours.insert(top % 4096);
    }
    CHECK(colours.size() == 16);
    for (const Stack& stack : stacks)
        pool.give_back(stack);
    for (auto stack = stacks.rbegin(); stack != stacks.rend(); ++stack)
        CHECK(pool.take(64 * kib).top == stack->top);
    for (const Stack& stack : stacks)
        pool.give_back(stack);
}

TEST_CASE("trimming gives the memory of idle stacks back, and guards stay", "[coro]") {
    const Guard guard = GENERATE(Guard::automatic, Guard::protect, Guard::canary);
    StackPool pool(guard);
    std::vector<Stack> stacks;
    for (int i = 0; i < 10; ++i) {
        stacks.push_back(pool.take(64 * kib));
        touch(stacks.back());
        std::memset(stacks.back().bottom + 100, 1, 30 * kib);
    }
    for (const Stack& stack : stacks) {
        if (stack.has_canary) stack.bottom[0] = std::byte{0xC5}; // `touch` has spoilt it
        pool.give_back(stack);
    }
    CHECK(pool.stats().idle == 10);
    pool.trim(2);
    CHECK(pool.stats().idle == 2);
    CHECK(pool.stats().trimmed == 8);
    int in_memory = 0;
    for (const Stack& stack : stacks)
        in_memory += resident(stack.top - 1);
    CHECK(in_memory == 2);
    if (guard != Guard::canary) CHECK(writing_kills(stacks[0].bottom - 1));
    // They are taken again, the warm ones first.
    for (int i = 0; i < 10; ++i) {
        const Stack stack = pool.take(64 * kib);
        CHECK(resident(stack.top - 1) == (i < 2));
    }
    CHECK(pool.stats().in_use == 10);
    for (const Stack& stack : stacks)
        pool.give_back(stack);
}

TEST_CASE("when a crowd has gone for a while its stacks' memory is given back", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        auto& pool = coro::detail::Scheduler::of(coro::this_loop()).stacks();
        coro::task_group([](coro::TaskGroup& group) {
            for (int i = 0; i < 5'000; ++i)
                (void)group.spawn([] { coro::sleep(1ms); }, {.stack_size = 16 * kib});
        });
        CHECK(pool.stats().trimmed == 0); // another crowd may follow
        CHECK(pool.stats().idle >= 5'000);
        coro::sleep(4s);
        CHECK(pool.stats().idle <= 65);
        CHECK(pool.stats().trimmed >= 5'000 - 65);
        CHECK(coro::this_loop().stats().timers == 0);
    });
}

TEST_CASE("the stacks that a crowd needs again and again keep their memory", "[coro]") {
    WEFT_TEST_KERNEL(simulated_kernels);
    run_on(kernel_kind, [] {
        auto& pool = coro::detail::Scheduler::of(coro::this_loop()).stacks();
        const auto crowd = [](int size) {
            coro::task_group([&](coro::TaskGroup& group) {
                for (int i = 0; i < size; ++i)
                    (void)group.spawn([] { coro::sleep(1ms); }, {.stack_size = 16 * kib});
            });
        };
        crowd(3000);
        for (int i = 0; i < 100; ++i) {
            crowd(1000);
            coro::sleep(100ms);
        }
        CHECK(pool.stats().idle >= 1000);
        CHECK(pool.stats().idle <= 1065);
        CHECK(pool.stats().trimmed >= 1900);
    });
}

TEST_CASE("a pool gives all of its address space back", "[coro]") {
#if defined(__SANITIZE_THREAD__)
    WARN("left out under ThreadSanitizer, which maps memory of its own for each stack");
    return;
#endif
    const Guard guard = GENERATE(Guard::automatic, Guard::protect, Guard::canary);
    const auto round = [guard] {
        const std::size_t space = address_space();
        StackPool pool(guard);
        std::vector<Stack> stacks;
        for (int i = 0; i < 2000; ++i)
            stacks.push_back(pool.take(128 * kib));
        CHECK(pool.stats().reserved >= 2000 * 128 * kib);
        CHECK(address_space() >= space + 2000 * 128 * kib);
        for (const Stack& stack : stacks)
            pool.give_back(stack);
    };
    round(); // what allocators map they keep
    const std::size_t maps = mappings();
    const std::size_t space = address_space();
    round();
    CHECK(address_space() < space + 8 * 1024 * kib);
    CHECK(mappings() < maps + 10);
}

TEST_CASE("where the kernel refuses markers, before or after it was asked, mprotect guards stacks",
          "[F38][coro]") {
    const ChildEnd end = in_child([] {
        StackPool before; // has seen what the kernel can do before it could not any more
        if (!refuse_guard_markers()) return 77;
        const Stack stack = before.take(64 * kib);
        if (before.guard() != Guard::protect) return 1;
        if (before.stats().guards_by_protection != 1) return 2;
        StackPool after;
        if (after.guard() != Guard::protect) return 3;
        std::signal(SIGSEGV, [](int) { ::_exit(0); });
        *const_cast<volatile std::byte*>(stack.bottom - 1) = std::byte{1};
        return 4;
    });
    INFO("status " << end.status << " " << end.errors);
    if (end.exited_with(77))
        WARN("not tested: this process may not filter its system calls");
    else
        CHECK(end.exited_with(0));
}

TEST_CASE("when the system has no more guard pages stacks get canaries, with one warning",
          "[F38][coro]") {
#if defined(__SANITIZE_THREAD__)
    WARN("left out under ThreadSanitizer, which maps memory of its own for each stack");
    return;
#endif
    LogCapture log;
    StackPool pool(Guard::protect);
    std::vector<Stack> stacks;
    while (pool.guard() == Guard::protect)
        stacks.push_back(pool.take(16 * kib));
    for (int i = 0; i < 10; ++i)
        stacks.push_back(pool.take(16 * kib));
    const std::size_t guarded = pool.stats().guards_by_protection;
    CHECK(guarded > 10'000);
    const auto messages = log.taken();
    REQUIRE(messages.size() == 1);
    CHECK(
        messages[0].starts_with("after " + std::to_string(guarded) +
                                " stacks this system has no more guard pages (vm.max_map_count)"));
    // There is room for the mappings of everybody else.
    {
        std::ifstream still_works("/proc/self/maps");
        CHECK(still_works.good());
    }
    CHECK_FALSE(stacks.front().has_canary);
    CHECK(stacks.back().has_canary);
    stacks.back().bottom[63] = std::byte{0};
    for (std::size_t i = 0; i + 1 < stacks.size(); ++i) {
        stacks[i].bottom[64] = std::byte{0};
        if (!stacks[i].has_canary) stacks[i].bottom[0] = std::byte{0}; // it has none to spoil
        CHECK(StackPool::intact(stacks[i]));
    }
    CHECK_FALSE(StackPool::intact(stacks.back()));
    for (const Stack& stack : stacks)
        pool.give_back(stack);
}

TEST_CASE("without memory for a stack spawn throws, and the loop and the others live on",
          "[F38][F29][coro]") {
#if defined(__SANITIZE_THREAD__)
    WARN("left out under ThreadSanitizer, which maps memory of its own for each stack");
    return;
#endif
#if defined(__SANITIZE_ADDRESS__)
    WARN("left out under AddressSanitizer: it ends the process when its own memory runs out");
    return;
#endif
    const ChildEnd end = in_child([] {
        return coro::run([] {
            auto other = coro::spawn([] {
                coro::sleep(1ms);
                return 5;
            });
            coro::yield();
            const rlimit limit{address_space() + 64 * 1024 * kib, RLIM_INFINITY};
            ::setrlimit(RLIMIT_AS, &limit);
            std::vector<coro::Task<void>> tasks;
            tasks.reserve(100);
            try {
                for (;;)
                    tasks.push_back(
                        coro::spawn([] { coro::yield(); }, {.stack_size = 16 * 1024 * kib}));
            } catch (const std::system_error& e) {
                if (e.code() != std::errc::not_enough_memory) return 1;
                std::fprintf(stderr, "%s\n", e.what());
            }
            if (coro::all_tasks().size() != tasks.size() + 2) return 2;
            for (auto& task : tasks)
                task.join();
            return other.join() == 5 ? 0 : 3;
        });
    });
    INFO(end.errors);
    CHECK(end.exited_with(0));
    CHECK(end.errors.find("memory for stacks of 16777216 bytes") != std::string::npos);
}

TEST_CASE("a stack that no system has is refused", "[F38][coro]") {
    StackPool pool;
    CHECK_THROWS_AS(pool.take(SIZE_MAX / 4), std::system_error);
    CHECK(pool.stats().in_use == 0);
}

TEST_CASE("an allocation that fails in spawn leaves everything as it was", "[F29][coro]") {
    WEFT_TEST_KERNEL(all_kernels);
    run_on(kernel_kind, [] {
        auto& pool = coro::detail::Scheduler::of(coro::this_loop()).stacks();
        auto capture = std::make_shared<int>(1);
        const std::string name(100, 'n');
        bool ran = false;
        std::size_t spared = 0;
        for (;; ++spared) {
            const auto in_use = pool.stats().in_use;
            const auto tasks = coro::all_tasks().size();
            coro::Task<void> task;
            bool failed = false;
            {
                FailingAllocation failure(spared);
                try {
                    // A size of its own, so that each round needs a new mapping's bookkeeping.
                    task = coro::spawn([capture, &ran] { ran = true; },
                                       {.name = name, .stack_size = 32 * kib});
                } catch (const std::bad_alloc&) {
                    failed = true;
                }
            }
            if (!failed) {
                task.join();
                break;
            }
            CHECK(capture.use_count() == 1);
            CHECK(pool.stats().in_use == in_use);
            CHECK(coro::all_tasks().size() == tasks);
            CHECK_FALSE(ran);
        }
        CHECK(spared >= 2);
        CHECK(ran);
        CHECK(capture.use_count() == 1);
    });
}

TEST_CASE("the default stack holds what programs do: numbers printed, names looked up, a regex",
          "[F37][coro]") {
    const ResourceGuard guard;
    coro::RunOptions options;
    options.handle_interrupt = false;
    coro::run(
        [] {
            char text[400];
            CHECK(std::snprintf(text, sizeof text, "%.30f %Lf", 1e300 / 3, 1.5L) > 300);
            addrinfo* found = nullptr;
            CHECK(::getaddrinfo("localhost", "80", nullptr, &found) == 0);
            if (found != nullptr) ::freeaddrinfo(found);
            const std::regex pattern("([a-z]+)=([0-9]+)(;|$)");
            std::smatch match;
            const std::string line = "length=42;";
            CHECK(std::regex_search(line, match, pattern));
            CHECK(match[2] == "42");
        },
        std::move(options));
}
