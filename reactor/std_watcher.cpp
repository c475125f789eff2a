#include <weft/reactor/std_watcher.hpp>

#include <algorithm>
#include <iterator>
#include <unistd.h>

namespace weft::detail {
namespace {

constexpr Duration longest_pause = std::chrono::milliseconds(10);
constexpr Duration shortest_pause = std::chrono::milliseconds(1);

} // namespace

void StdWatcher::add(std::shared_ptr<Watched> watched) {
    const std::lock_guard lock(mutex_);
    if (!thread_.joinable()) {
        process_ = getpid();
        thread_ = std::thread([this] { work(); });
    }
    added_.push_back(std::move(watched));
    changed_.notify_one();
}

void StdWatcher::stop() noexcept {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        changed_.notify_one();
    }
    if (thread_.joinable()) thread_.join();
    std::move(added_.begin(), added_.end(), std::back_inserter(watched_));
    added_.clear();
    for (const auto& watched : watched_)
        watched->give_up();
}

void StdWatcher::forget(std::unique_ptr<StdWatcher> of_the_parent) {
    static auto& all = *new std::vector<std::unique_ptr<StdWatcher>>;
    all.push_back(std::move(of_the_parent));
}

bool StdWatcher::forked() const noexcept {
    return process_ != 0 && process_ != getpid();
}

// Those that nobody wants stay until they are ready, for destroying one of std::async's waits for
// that.
bool StdWatcher::look_at(List& list, Duration time) {
    const auto ended = [time](const std::shared_ptr<Watched>& watched) {
        if (watched->unwanted.load()) watched->give_up();
        if (!watched->ready_within(time)) return false;
        watched->settle();
        return true;
    };
    return std::erase_if(list, ended) != 0;
}

void StdWatcher::work() {
    Duration pause = shortest_pause;
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return stopping_ || !added_.empty() || !watched_.empty(); });
        if (stopping_) return;
        const bool news = !added_.empty();
        std::move(added_.begin(), added_.end(), std::back_inserter(watched_));
        added_.clear();
        lock.unlock();
        const bool alone = watched_.size() == 1;
        const bool ended = look_at(watched_, alone ? longest_pause : Duration::zero());
        pause = news || ended ? shortest_pause : std::min<Duration>(2 * pause, longest_pause);
        lock.lock();
        if (!alone && !ended)
            changed_.wait_for(lock, pause, [this] { return stopping_ || !added_.empty(); });
    }
}

} // namespace weft::detail
