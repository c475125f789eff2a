#include "../core/context_switch.hpp"
#include "../core/wait_cycle.hpp"

#include <weft/coro/sync/wait_queue.hpp>
#include <weft/coro/tasks/generator.hpp>

namespace weft::coro::detail {

/// Of the body, for the next to ask. Its scopes being cancelled does not end it: it hears of that
/// when it runs.
class GeneratorBase::YieldWait final : public Wait {
public:
    YieldWait(Coroutine& self, GeneratorBase& generator) noexcept
        : Wait(self), generator_(generator) {}
    void abandon() noexcept override { generator_.at_yield_ = false; }
    TaskBase* cancel_instead() noexcept override {
        return coroutine.scheduler.ending() ? nullptr
                                            : &coroutine.task; // itself, which knows already
    }
    std::string describe() const override { return "its consumer to ask for an item"; }

private:
    GeneratorBase& generator_;
};

/// Of the consumer, for the body. Cancelling it cancels the body.
class GeneratorBase::ItemWait final : public Wait {
public:
    ItemWait(Coroutine& self, GeneratorBase& generator) noexcept
        : Wait(self), generator_(generator) {}
    /// The body goes on without it.
    void abandon() noexcept override {
        generator_.waiting_ = nullptr;
        generator_.consumer_ = nullptr;
        generator_.enter_scope(nullptr);
    }
    TaskBase* cancel_instead() noexcept override { return &generator_; }
    void needed(TaskVisitor& visitor) const override { visitor.visit(generator_); }
    bool refusable() const noexcept override { return false; } // the body is, whose wait it is
    std::string describe() const override {
        return "the generator " + generator_.TaskBase::describe();
    }

private:
    GeneratorBase& generator_;
};

GeneratorBase::GeneratorBase(const SpawnOptions& options, std::source_location where)
    : TaskBase(where),
      stack_size_(options.stack_size != 0 ? options.stack_size : default_stack_size) {
    body_.scope = &scope_;
    set_name(options.name);
}

void GeneratorBase::begin(Coroutine& consumer) {
    Coroutine& made = consumer.scheduler.make(*this, stack_size_, 0, &entry);
    consumer.scheduler.add(made, body_, &consumer);
    at_yield_ = true;
}

void GeneratorBase::entry(Context& context) {
    auto& self = static_cast<Coroutine&>(context);
    auto& generator = static_cast<GeneratorBase&>(self.task);
    auto outcome = Phase::cancelled;
    if (begin_task(self)) {
        try {
            generator.run();
            outcome = Phase::value;
        } catch (const Cancelled&) {
        } catch (...) {
            set_error(generator);
            outcome = Phase::failed;
        }
    }
    // Captures go before the consumer hears of the end.
    end_task(self, outcome, &generator,
             [](void* ended) noexcept { static_cast<GeneratorBase*>(ended)->drop(); });
}

bool GeneratorBase::next(Deadline deadline) {
    Coroutine& self = running("Generator");
    self.scheduler.checkpoint(self);
    if (consumer_ != nullptr)
        throw UsageError("Generator: the coroutine " + Scheduler::describe(*consumer_) +
                         " waits for its next item already");
    if (std::exchange(unasked_, false)) return true;
    item = nullptr;
    if (done()) {
        if (error && !error_seen) check_value(); // it failed when nobody was waiting
        return false;
    }
    if (unwinding())
        throw UsageError(
            "Generator: asked for an item by a destructor that runs because of an exception");
    if (coroutine == nullptr) begin(self);
    Coroutine& body = *coroutine;
    if (&body.scheduler != &self.scheduler)
        throw UsageError("Generator: it was begun in another loop");
    consumer_ = &self;
    CancelScope::own_of(self); // between the body and what is around the consumer, from now on
    enter_scope(self.scope);
    if (at_yield_) run_body(self);
    if (item == nullptr && !done()) {
        ItemWait wait(self, *this);
        waiting_ = &wait;
        break_cycle("Generator", wait);
        // If it was cancelled by the body, or what that has called, it is the body that ends the
        // wait, which is cancelled, too.
        wait.uncancellable = self.cancel_pending && self.no_wait == nullptr && cancellable();
        if (self.scheduler.suspend(wait, deadline.at()) == Wake::timed_out)
            throw TimeoutError("Generator::next: the time is up for the generator " +
                               TaskBase::describe());
    }
    consumer_ = nullptr;
    if (item != nullptr) return true;
    check_value();
    return false;
}

void GeneratorBase::yield(void* at) {
    Coroutine& self = running("yield");
    if (&self != coroutine)
        throw UsageError("yield: called by the coroutine " + Scheduler::describe(self) +
                         ", which is not the body of the generator " + TaskBase::describe());
    if (unwinding())
        throw UsageError("yield: called by a destructor that runs because of an exception");
    self.scheduler.check_cancelled(self);
    item = at;
    unasked_ = consumer_ == nullptr;
    at_yield_ = true;
    enter_scope(nullptr);
    wake_consumer();
    YieldWait wait(self, *this);
    self.scheduler.suspend(wait);
    self.scheduler.check_cancelled(self);
}

// It stands at a yield, or has not begun.
void GeneratorBase::run_body(Coroutine& consumer) {
    Coroutine& body = *coroutine;
    at_yield_ = false;
    body.wait = nullptr;
    body.woken_by = Wake::event;
    body.in_cancellation = false;
    consumer.scheduler.run_for(consumer, body);
}

void GeneratorBase::abandon() noexcept {
    if (coroutine != nullptr) {
        Coroutine& body = *coroutine;
        if (consumer_ != nullptr)
            destroyed_in_use("the generator " + TaskBase::describe() +
                             " was destroyed while the coroutine " +
                             Scheduler::describe(*consumer_) + " waited for its next item");
        scope_.request_ = CancelScope::Request::cancelled;
        scope_.update();
        const bool here = current != nullptr && &current->scheduler == &body.scheduler;
        if (at_yield_) {
            if (here) {
                run_body(*current);
            } else {
                at_yield_ = false;
                body.wait = nullptr;
                body.woken_by = Wake::cancelled;
                body.scheduler.make_ready(body);
            }
        }
        if (here && !done()) {
            consumer_ = current;
            ItemWait wait(*current, *this);
            wait.uncancellable = true;
            waiting_ = &wait;
            break_cycle("the end of a Generator", wait);
            current->scheduler.suspend(wait); // throws nothing, being uncancellable
        }
    }
    release();
}

// The scopes of the consumer are around the body's while it asks, and none are in between.
void GeneratorBase::enter_scope(CancelScope* parent) noexcept {
    scope_.link_.unlink();
    scope_.parent_ = nullptr;
    if (parent != nullptr) scope_.link_to(parent);
    scope_.update();
}

void GeneratorBase::wake_consumer() noexcept {
    if (waiting_ != nullptr) std::exchange(waiting_, nullptr)->wake();
}

// Called by the body's coroutine, whose last act this is.
void GeneratorBase::ended() noexcept {
    CancelScope& root = current->scheduler.root_scope();
    current->scope_link.unlink();
    root.add_member(*current);
    current->scope = &root;
    enter_scope(nullptr);
    item = nullptr;
    wake_consumer();
}

} // namespace weft::coro::detail
