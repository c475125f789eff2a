#pragma once

#include <weft/reactor/loop.hpp>
#include <weft/reactor/std_watcher.hpp>
#include <weft/reactor/thread_pool.hpp>

#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <type_traits>

#pragma GCC visibility push(default)

namespace weft {

template<class F>
Handle Loop::call_soon(F&& function, std::source_location location) {
    Function<void()> callable(std::forward<F>(function)); // may throw, so before a node is taken
    detail::CallNode* node = new_node();
    if (node == nullptr) return {}; // the loop is being closed
    node->function = std::move(callable);
    node->location = location;
    const Handle handle(node, node->sequence = ++sequence_);
    soon_.push(node);
    work_queued_ = true;
    if (!in_turn_) outside_change();
    return handle;
}

template<class T>
T Loop::run_until(Future<T> future) {
    if (!future.valid()) detail::throw_no_state("run_until");
    run_until_done(*future.state_ref());
    return future.take();
}

template<class F>
auto Loop::run_in_executor(F function) -> Future<std::invoke_result_t<F&>> {
    return run_in_executor(executor(), std::move(function));
}

namespace detail {

/// A call on its way through a pool: the callable on the way there, its outcome on the way back.
/// The loop keeps a list of those under way. Only `run` and destruction happen on other threads.
template<class F>
struct ExecutorJob final : JobBase {
    using R = std::invoke_result_t<F&>;
    ExecutorJob(Loop& loop, F f) : function(std::move(f)), promise(loop) {}

    void run() noexcept {
        try {
            if constexpr (std::is_void_v<R>) {
                function();
                value.emplace();
            } else {
                value.emplace(function());
            }
        } catch (const Cancelled&) {
            cancelled = true;
        } catch (...) {
            error = std::current_exception();
        }
    }
    void deliver() override {
        if (cancelled) {
            promise.future().cancel();
        } else if (error) {
            promise.set_exception_if_pending(std::move(error));
        } else if (!value) {
            promise.set_error_if_pending(
                {Errc::aborted, "run_in_executor: the job was dropped unrun"});
        } else if constexpr (std::is_void_v<R>) {
            promise.set_value_if_pending();
        } else {
            promise.set_value_if_pending(std::move(*value));
        }
    }
    void abort() override {
        promise.set_error_if_pending({Errc::aborted, "run_in_executor: the loop was closed"});
    }
    FutureStateBase& state() noexcept override { return *promise.future().state_ref(); }

    F function;
    Promise<R> promise;
    std::optional<typename FutureState<R>::Value> value;
    std::exception_ptr error;
    bool cancelled = false;
};

} // namespace detail

template<class F>
auto Loop::run_in_executor(ThreadPool& pool, F function) -> Future<std::invoke_result_t<F&>> {
    using Job = detail::ExecutorJob<F>;
    check_usable("run_in_executor");
    auto job = std::make_shared<Job>(*this, std::move(function));
    auto future = job->promise.future();
    job->of_loop = &pool == executor_.get();
    begin_job(job);
    ThreadPool::JobId id = 0;
    const auto error = pool.submit(
        [ticket = detail::JobTicket(job, mailbox()), running = job.get()] {
            detail::job_on_this_thread() = ticket.loop();
            running->run();
            detail::job_on_this_thread() = nullptr;
        },
        &id);
    if (error) { // the ticket was destroyed and has sent the job back
        job->promise.set_error_if_pending({error, "run_in_executor"});
    } else {
        job->promise.on_cancel([queue = pool.queue(), id] { detail::cancel_job(queue, id); });
    }
    return future;
}

namespace detail {

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
    loop.check_usable("from_std");
    auto shared = std::make_shared<std::future<T>>(std::move(source));
    std::function<T()> take = [shared]() -> T { return shared->get(); };
    if (shared->wait_for(Duration::zero()) == std::future_status::deferred)
        return loop.run_in_executor(std::move(take));
    using Watched = detail::WatchedStd<T>;
    auto job = std::make_shared<typename Watched::Job>(loop, std::move(take));
    Future<T> result = job->promise.future();
    auto watched =
        std::make_shared<Watched>(std::move(shared), job, detail::JobTicket(job, loop.mailbox()));
    job->promise.on_cancel([watched = std::weak_ptr<Watched>(watched)] {
        if (const auto alive = watched.lock()) alive->unwanted.store(true);
    });
    loop.begin_job(job);
    loop.std_watcher().add(std::move(watched));
    return result;
}

} // namespace weft

#pragma GCC visibility pop
