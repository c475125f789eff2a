#include "loop_entered.hpp"

#include <weft/reactor/log.hpp>
#include <weft/reactor/loop.hpp>
#include <weft/reactor/loop_core.hpp>

#include <cstdlib>
#include <utility>

namespace weft {

using detail::LoopCore;

Loop::Loop(LoopOptions options) : core_(std::make_unique<LoopCore>(*this, std::move(options))) {}
Loop::~Loop() {
    core_->end();
}

void Loop::run() {
    core_->run_turns(false);
}
void Loop::run_until_idle() {
    core_->run_turns(true);
}
void Loop::run_until_done(detail::FutureStateBase& state) {
    core_->run_until_done(state);
}
std::size_t Loop::run_once(bool wait) {
    return core_->run_once(wait);
}
void Loop::stop() noexcept {
    core_->stop();
}
void Loop::close() {
    core_->close();
}
bool Loop::running() const noexcept {
    return core_->running();
}
bool Loop::closed() const noexcept {
    return core_->closed();
}
bool Loop::closing() const noexcept {
    return core_->closing();
}
Loop* Loop::current() noexcept {
    return LoopCore::Entered::current != nullptr ? &LoopCore::Entered::current->loop() : nullptr;
}

TimePoint Loop::now() noexcept {
    return core_->now();
}
Handle Loop::call_soon(Function<void()> function, std::source_location location) {
    return core_->call_soon(std::move(function), location);
}
Timer Loop::call_at(TimePoint when, Function<void()> function, std::source_location location) {
    return core_->call_at(when, std::move(function), location);
}
Timer Loop::call_every(Duration interval, Function<void()> function,
                       std::source_location location) {
    return core_->call_every(interval, std::move(function), location);
}
std::error_code Loop::post(Function<void()> function, std::source_location location) {
    return core_->mailbox()->post(std::move(function), location);
}
RemoteLoop Loop::remote() const noexcept {
    return RemoteLoop(core_->mailbox());
}
RemoteLoop::RemoteLoop(const Loop& loop) noexcept : RemoteLoop(loop.remote()) {}

Result<Watch> Loop::watch(int fd, std::source_location location) {
    return core_->watch(fd, location);
}
Result<SignalWatch> Loop::on_signal(int number, Function<void()> function,
                                    std::source_location location) {
    return core_->on_signal(number, std::move(function), location);
}
ThreadPool& Loop::executor() {
    return core_->jobs().pool();
}
void Loop::submit(ThreadPool& pool, const std::shared_ptr<detail::JobBase>& job) {
    core_->jobs().submit(pool, job);
}
void Loop::check_usable(const char* what) const {
    core_->check_usable(what);
}
void Loop::on_unhandled(Function<void(const Unhandled&)> handler) {
    core_->reporter().set_handler(std::move(handler));
}

Result<int> Loop::pollable_fd() {
    return core_->pollable_fd();
}
StepResult Loop::step(Budget budget) {
    return core_->step(budget);
}
TimePoint Loop::next_deadline() noexcept {
    return core_->next_deadline();
}
void Loop::on_wake(Function<void()> hook) {
    core_->on_wake(std::move(hook));
}
Result<void> Loop::after_fork() {
    return core_->after_fork();
}
bool Loop::debug() const noexcept {
    return core_->debug();
}
Loop::Stats Loop::stats() const noexcept {
    return core_->stats();
}

void detail::check_usable(const Loop& loop, const char* what) {
    core_of(loop).check_usable(what);
}

void detail::watch_std(Loop& loop, std::shared_ptr<JobBase> job,
                       std::shared_ptr<StdWatcher::Watched> watched) {
    ExecutorJobs& jobs = core_of(loop).jobs();
    jobs.begin(std::move(job));
    jobs.std_watcher().add(std::move(watched));
}

} // namespace weft
