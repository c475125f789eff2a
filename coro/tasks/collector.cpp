#include "../core/wait_cycle.hpp"

#include <weft/coro/tasks/collector.hpp>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

namespace weft::coro::detail {

// --- A task or a future ---

const void* Awaited::id() const noexcept {
    return task_ ? static_cast<const void*>(task_.get()) : future_.get();
}

bool Awaited::done() const noexcept {
    return task_ ? task_->done() : future_->done();
}

bool Awaited::failed() const noexcept {
    return task_ ? task_->done() && task_->phase != TaskBase::Phase::value
                 : future_->done() &&
                       future_->status() != weft::detail::FutureStateBase::Status::value;
}

void Awaited::cancel() {
    if (task_) {
        task_->cancel();
    } else {
        future_->cancel();
    }
}

void Awaited::add(Waiter& waiter) noexcept {
    if (task_) {
        task_->joiners.push_back(waiter);
    } else {
        future_->add_waiter(waiter);
    }
}

void Awaited::check_value() const {
    if (task_) {
        task_->check_value();
    } else {
        future_->check_value();
    }
}

void Awaited::check(const char* what, const Coroutine& self) const {
    if (!task_ && !future_)
        throw UsageError(std::string(what) + ": one of the tasks or futures is empty");
    if (done()) return;
    if (task_) return task_->check_joinable(what, self);
    if (future_->loop() != &self.scheduler.loop())
        throw UsageError(std::string(what) + ": one of the futures belongs to another loop");
}

// --- Several of them ---

class CollectWait final : public Wait {
public:
    CollectWait(Coroutine& self, Collector& collector) noexcept
        : Wait(self), collector_(collector) {}
    void abandon() noexcept override { collector_.wait_ = nullptr; }
    void needed(TaskVisitor& visitor) const override {
        // Of several of which any will do, none has to end.
        if (collector_.wanted_ < collector_.distinct_) return;
        for (const Awaited& item : collector_.items_)
            if (!item.done() && item.task() != nullptr) visitor.visit(*item.task());
    }
    std::string describe() const override {
        return "one of " + std::to_string(collector_.left()) + " tasks or futures (" +
               collector_.what_ + ")";
    }

private:
    Collector& collector_;
};

Collector::Collector(const char* what, std::vector<Awaited> items)
    : what_(what), self_(running(what)), items_(std::move(items)), nodes_(items_.size()) {
    for (const Awaited& item : items_)
        item.check(what, self_);
    std::vector<std::size_t> order(items_.size());
    for (std::size_t i = 0; i < order.size(); ++i)
        order[i] = i;
    std::stable_sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
        return std::less<>()(items_[a].id(), items_[b].id());
    });
    order.erase(std::unique(order.begin(), order.end(),
                            [this](std::size_t a, std::size_t b) {
                                return items_[a].id() == items_[b].id();
                            }),
                order.end());
    std::sort(order.begin(), order.end());
    distinct_ = order.size();
    ended_.reserve(distinct_);
    for (const std::size_t index : order) {
        nodes_[index].collector = this;
        nodes_[index].index = index;
        if (items_[index].done()) {
            ended_.push_back(index);
        } else {
            items_[index].add(nodes_[index]);
        }
    }
}

Collector::~Collector() {
    for (Node& node : nodes_)
        node.unlink();
}

TaskBase* Collector::Node::who() const noexcept {
    return collector->wait_ != nullptr ? &collector->self_.task : nullptr;
}

void Collector::ended(std::size_t index) noexcept {
    ended_.push_back(index); // there is room for all
    if (wait_ == nullptr) return;
    if (ended_.size() < wanted_ && !(until_failure_ && items_[index].failed())) return;
    std::exchange(wait_, nullptr)->wake();
}

// Parks once, however many end meanwhile.
bool Collector::park(std::size_t wanted, TimePoint deadline, bool uncancellable) {
    CollectWait wait(self_, *this);
    wait.uncancellable = uncancellable;
    wanted_ = wanted;
    if (uncancellable) {
        break_cycle(what_, wait);
    } else if (wanted == distinct_) {
        // One that could be waited for at first may have come to wait for this one since.
        for (const Awaited& item : items_)
            if (!item.done()) item.check(what_, self_);
    }
    wait_ = &wait;
    return self_.scheduler.suspend(wait, deadline) != Wake::timed_out;
}

std::size_t Collector::next(TimePoint deadline) {
    if (current != &self_)
        throw UsageError(std::string(what_) + ": made by one coroutine and used by another");
    if (told_ < ended_.size()) {
        self_.scheduler.checkpoint(self_);
    } else if (!park(told_ + 1, deadline, false)) {
        return none;
    }
    return ended_[told_++];
}

std::size_t Collector::wait_for_all(bool until_failure, TimePoint deadline) {
    until_failure_ = until_failure;
    if (!ended_.empty() || distinct_ == 0) self_.scheduler.checkpoint(self_);
    for (;;) {
        for (; told_ < ended_.size(); ++told_)
            if (until_failure && items_[ended_[told_]].failed()) return ended_[told_];
        if (told_ == distinct_ || !park(distinct_, deadline, false)) return none;
    }
}

void Collector::end_all() {
    until_failure_ = false;
    for (Awaited& item : items_)
        if (!item.done()) item.cancel();
    while (ended_.size() < distinct_)
        (void)park(distinct_, TimePoint::max(), true);
}

} // namespace weft::coro::detail
