#pragma once

#include <weft/reactor/loop.hpp>
#include <weft/reactor/thread_pool.hpp>

#include <type_traits>

namespace weft {

template<class F>
Handle Loop::call_soon(F&& function, std::source_location location) {
    detail::CallNode* node = new_node();
    if (node == nullptr) return {}; // the loop is closed; new_node has said so
    node->function = Function<void()>(std::forward<F>(function));
    node->location = location;
    node->sequence = ++sequence_;
    soon_.push(node);
    if (!in_turn_) outside_change();
    return Handle(node, node->sequence);
}

template<class T>
T Loop::run_until(Future<T> future) {
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
    if (error) {
        job->promise.set_error_if_pending({error, "run_in_executor"});
    } else {
        job->promise.on_cancel([&pool, id] { pool.cancel(id); });
    }
    return future;
}

} // namespace weft
