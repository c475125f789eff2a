#pragma once

#include <weft/reactor/loop.hpp>

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#pragma GCC visibility push(default)

namespace weft {
namespace detail {

void check_usable(const Loop& loop, const char* what);
/// `job` is under way in `loop` until `watched`, which a thread of the loop's looks after, settles.
void watch_std(Loop& loop, std::shared_ptr<JobBase> job,
               std::shared_ptr<StdWatcher::Watched> watched);

/// Brings the outcome of a standard future, which it shares with the job that takes it.
template<class T>
class WatchedStd final : public StdWatcher::Watched {
public:
    using Job = ExecutorJob<std::function<T()>>;
    WatchedStd(std::shared_ptr<std::future<T>> source, std::shared_ptr<Job> job,
               JobTicket ticket) noexcept
        : source_(std::move(source)), job_(job.get()), ticket_(std::move(ticket)) {}
    bool ready_within(Duration time) noexcept override {
        return source_->wait_for(time) == std::future_status::ready;
    }
    void settle() noexcept override {
        if (ticket_) job_->run();
        ticket_.reset();
    }
    void give_up() noexcept override { ticket_.reset(); }

private:
    std::shared_ptr<std::future<T>> source_;
    Job* job_;
    std::optional<JobTicket> ticket_; // none: given up
};

} // namespace detail

/// A future of `loop` with the outcome of a standard one, which can neither call back nor be
/// cancelled: a thread of the loop's looks after all of them. It sees at once that a single one is
/// ready, and within 10 ms if there are others. No thread of the executor is occupied, but by one
/// of `std::launch::deferred`, whose function runs there.
///
/// Cancelling the result, or closing the loop, ends it and leaves the standard future alone, which
/// is destroyed once it is ready, or at the end of the loop's `close`; one of `std::async` waits
/// for its function then. Dropping the result cancels nothing, as with all futures.
/// `std::system_error` if there is no thread to be had.
template<class T>
Future<T> from_std(Loop& loop, std::future<T> source) {
    if (!source.valid()) throw UsageError("from_std: the standard future has no state");
    detail::check_usable(loop, "from_std");
    auto shared = std::make_shared<std::future<T>>(std::move(source));
    std::function<T()> take = [shared]() -> T { return shared->get(); };
    if (shared->wait_for(Duration::zero()) == std::future_status::deferred)
        return loop.run_in_executor(std::move(take));
    using Watched = detail::WatchedStd<T>;
    auto job = std::make_shared<typename Watched::Job>(loop, std::move(take));
    Future<T> result = job->promise.future();
    auto watched = std::make_shared<Watched>(std::move(shared), job,
                                             detail::JobTicket(job, loop.remote().mailbox()));
    job->promise.on_cancel([watched = std::weak_ptr<Watched>(watched)] {
        if (const auto alive = watched.lock()) alive->unwanted.store(true);
    });
    detail::watch_std(loop, job, std::move(watched));
    return result;
}

} // namespace weft

#pragma GCC visibility pop
