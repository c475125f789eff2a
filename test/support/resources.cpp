#include "resources.hpp"

#include <weft/reactor/loop.hpp>

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

namespace weft::test {
namespace {

std::size_t thread_count() {
    const std::filesystem::directory_iterator all("/proc/self/task");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// pthread_join returns when the thread's memory is free, an instant before the system has forgotten
// it: seconds, with a sanitizer beside busy programs.
std::size_t thread_count_at_most(std::size_t expected) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    std::size_t count = thread_count();
    while (count > expected && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
        count = thread_count();
    }
    return count;
}

} // namespace

std::map<int, std::string> open_descriptors() {
    std::map<int, std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        std::error_code gone; // the iterator's own descriptor is closed when it is asked for
        const auto target = std::filesystem::read_symlink(entry.path(), gone);
        if (!gone && target.string().find("/fd") == std::string::npos)
            found[std::stoi(entry.path().filename())] = target.string();
    }
    return found;
}

Resources Resources::now() {
    Resources result;
    result.descriptors = open_descriptors();
    result.threads = thread_count();
    for (int number = 1; number < 65; ++number) {
        struct sigaction action {};
        if (sigaction(number, nullptr, &action) == 0)
            result.handlers[static_cast<std::size_t>(number)] =
                reinterpret_cast<const void*>(action.sa_handler);
    }
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    for (int number = 1; number < 65; ++number)
        result.mask += sigismember(&blocked, number) == 1 ? '1' : '0';
    return result;
}

std::string Resources::difference_from(const Resources& before) const {
    std::string text;
    for (const auto& [fd, target] : descriptors)
        if (!before.descriptors.contains(fd))
            text += "descriptor " + std::to_string(fd) + " -> " + target + "; ";
    for (const auto& [fd, target] : before.descriptors)
        if (!descriptors.contains(fd)) text += "descriptor " + std::to_string(fd) + " was closed; ";
    if (threads > before.threads) {
        const std::size_t left = thread_count_at_most(before.threads);
        if (left > before.threads) text += std::to_string(left - before.threads) + " threads; ";
    }
    for (std::size_t number = 1; number < handlers.size(); ++number)
        if (handlers[number] != before.handlers[number])
            text += "the handler of signal " + std::to_string(number) + "; ";
    if (mask != before.mask) text += "the signal mask; ";
    return text;
}

ResourceGuard::ResourceGuard(const Loop* loop) : loop_(loop), before_(Resources::now()) {}

ResourceGuard::~ResourceGuard() {
    const std::string left = Resources::now().difference_from(before_);
    CHECK(left == "");
    if (loop_ == nullptr) return;
    const auto stats = loop_->stats();
    CHECK(stats.sources == 0);
    CHECK(stats.timers == 0);
    CHECK(stats.signals == 0);
    CHECK(stats.callbacks == 0);
    CHECK(stats.jobs == 0);
}

} // namespace weft::test
