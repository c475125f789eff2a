#pragma once

#include <weft/reactor/clock.hpp>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <sys/types.h>
#include <thread>
#include <vector>

#pragma GCC visibility push(default)

namespace weft::detail {

/// One thread that looks after all the standard futures that a loop waits for (`from_std`), since
/// they cannot call back. It waits for one that is alone, and looks at several in turn, every 10 ms
/// at the latest.
class StdWatcher {
public:
    /// A standard future, and what is to be told.
    class Watched {
    public:
        virtual ~Watched() = default;
        virtual bool ready_within(Duration time) noexcept = 0;
        virtual void settle() noexcept = 0;  ///< it is ready: hands its outcome on
        virtual void give_up() noexcept = 0; ///< nobody wants the outcome any more
        std::atomic<bool> unwanted{false};   ///< set by any thread; `give_up` follows
    };

    StdWatcher() = default;
    /// Destroys what is still watched, which waits for those futures that come from `std::async`.
    ~StdWatcher() { stop(); }
    StdWatcher(const StdWatcher&) = delete;
    StdWatcher& operator=(const StdWatcher&) = delete;

    /// Starts the thread if there is none: may throw `std::system_error`.
    void add(std::shared_ptr<Watched> watched);
    /// Ends the thread and gives up whatever is watched, which stays until the end.
    void stop() noexcept;
    /// In a forked child there is no thread, and its lock may be held for good: what there is stays
    /// for ever.
    static void forget(std::unique_ptr<StdWatcher> of_the_parent);
    bool forked() const noexcept;

private:
    using List = std::vector<std::shared_ptr<Watched>>;
    void work();
    bool look_at(List& list, Duration time);

    std::mutex mutex_;
    std::condition_variable changed_;
    List added_;   // since the thread last looked
    List watched_; // the thread's, while it runs
    bool stopping_ = false;
    pid_t process_ = 0;
    std::thread thread_;
};

} // namespace weft::detail

#pragma GCC visibility pop
