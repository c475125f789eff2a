#pragma once

#include <weft/reactor/loop.hpp>
#include <weft/reactor/thread_pool.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <type_traits>

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

/// A call on its way through a pool: the callable on the way there, its outcome on the way back. The loop keeps a list of
/// those under way. Only `run` and destruction happen on other threads.
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
        } catch (...) {
            error = std::current_exception();
        }
    }
    void deliver() override {
        if (error) {
            promise.set_exception_if_pending(std::move(error));
        } else if (!value) {
            promise.set_error_if_pending({Errc::aborted, "run_in_executor: the job was dropped unrun"});
        } else if constexpr (std::is_void_v<R>) {
            promise.set_value_if_pending();
        } else {
            promise.set_value_if_pending(std::move(*value));
        }
    }
    void abort() override {
        promise.set_error_if_pending({Errc::aborted, "run_in_executor: the loop was closed"});
    }

    F function;
    Promise<R> promise;
    std::optional<typename FutureState<R>::Value> value;
    std::exception_ptr error;
};

} // namespace detail

template<class F>
auto Loop::run_in_executor(ThreadPool& pool, F function) -> Future<std::invoke_result_t<F&>> {
    using Job = detail::ExecutorJob<F>;
    check_usable("run_in_executor");
    auto job = std::make_shared<Job>(*this, std::move(function));
    auto future = job->promise.future();
    begin_job(*job);
    ThreadPool::JobId id = 0;
    const auto error = pool.submit(
        [ticket = detail::JobTicket(job, remote()), running = job.get()] { running->run(); }, &id);
    if (error) { // the ticket was destroyed and has sent the job back
        job->promise.set_error_if_pending({error, "run_in_executor"});
    } else {
        job->promise.on_cancel([queue = pool.queue(), id] { detail::cancel_job(queue, id); });
    }
    return future;
}

/// A future of `loop` with the outcome of a standard one. A thread of the default executor waits for it, and looks up
/// every 20 ms whether somebody still wants it: a `std::future` can neither call back nor be cancelled. Cancelling the
/// result, or closing the loop, gives the standard future up.
template<class T>
Future<T> from_std(Loop& loop, std::future<T> source) {
    if (!source.valid()) throw UsageError("from_std: the standard future has no state");
    struct GiveUp {
        std::shared_ptr<std::atomic<bool>> flag;
        explicit GiveUp(std::shared_ptr<std::atomic<bool>> f) noexcept : flag(std::move(f)) {}
        GiveUp(GiveUp&&) noexcept = default;
        GiveUp& operator=(GiveUp&&) = delete;
        ~GiveUp() {
            if (flag) flag->store(true);
        }
        void operator()(const Future<T>&) const noexcept {}
    };
    auto unwanted = std::make_shared<std::atomic<bool>>(false);
    Future<T> result = loop.run_in_executor([source = std::move(source), unwanted]() mutable -> T {
        while (source.wait_for(std::chrono::milliseconds(20)) == std::future_status::timeout)
            if (unwanted->load()) throw std::system_error(Errc::aborted, "from_std");
        return source.get();
    });
    result.add_done_callback(GiveUp(std::move(unwanted))); // it is destroyed once the outcome is there, run or not
    return result;
}

} // namespace weft
