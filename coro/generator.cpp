#include "context_switch.hpp"

#include <weft/coro/generator.hpp>
#include <weft/coro/wait_queue.hpp>

namespace weft::coro::detail {

/// Of the body, for the next to ask. Its scopes being cancelled does not end it: it hears of that
/// when it runs.
class GeneratorBase::YieldWait final : public Wait {
public:
    explicit YieldWait(Coroutine& self) noexcept : Wait(self) {}
    void abandon() noexcept override {}
    TaskBase* cancel_instead() noexcept override {
        return coroutine.scheduler.ending() ? nullptr
                                            : &coroutine.task; // itself, which knows already
    }
    std::string describe() const override { return "its consumer to ask for an item"; }
};

/// Of the consumer, for the body. Cancelling it cancels the body.
class GeneratorBase::ItemWait final : public Wait {
public:
    ItemWait(Coroutine& self, GeneratorBase& generator) noexcept
        : Wait(self), generator_(generator) {}
    TaskBase* cancel_instead() noexcept override { return &generator_; }
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
}

void GeneratorBase::entry(Context& context) {
    auto& self = static_cast<Coroutine&>(context);
    auto& generator = static_cast<GeneratorBase&>(self.task);
    auto outcome = Status::cancelled;
    if (begin_task(self)) {
        try {
            generator.run();
            outcome = Status::value;
        } catch (const Cancelled&) {
        } catch (...) {
            set_error(generator);
            outcome = Status::failed;
        }
    }
    generator.drop(); // captures go before the consumer hears of the end
    end_task(self, outcome);
}

bool GeneratorBase::next() {
    Coroutine& self = running("Generator");
    self.scheduler.checkpoint(self);
    if (consumer_ != nullptr)
        throw UsageError("Generator: the coroutine " + Scheduler::describe(*consumer_) +
                         " waits for its next item already");
    item = nullptr;
    if (done()) return false;
    if (unwinding())
        throw UsageError(
            "Generator: asked for an item by a destructor that runs because of an exception");
    if (coroutine == nullptr) begin(self);
    Coroutine& body = *coroutine;
    if (&body.scheduler != &self.scheduler)
        throw UsageError("Generator: it was begun in another loop");
    consumer_ = &self;
    enter_scope(self.scope);
    body.wait = nullptr;
    body.woken_by = Wake::event;
    body.in_cancellation = false;
    self.scheduler.run_for(self, body);
    if (item == nullptr && !done()) {
        ItemWait wait(self, *this);
        waiting_ = &wait;
        if (self.cancel_pending) [[unlikely]] {
            // By the body, or what it has called. It is the body that ends the wait.
            wait.uncancellable = true;
            if (std::exchange(self.task.must_cancel, false)) cancel();
            self.update_cancellation();
        }
        self.scheduler.suspend(wait);
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
    enter_scope(nullptr);
    wake_consumer();
    YieldWait wait(self);
    self.scheduler.suspend(wait);
    self.scheduler.check_cancelled(self);
}

void GeneratorBase::abandon() noexcept {
    if (coroutine != nullptr) {
        Coroutine& body = *coroutine;
        if (consumer_ != nullptr)
            destroyed_in_use("the generator " + TaskBase::describe() +
                             " was destroyed while the coroutine " +
                             Scheduler::describe(*consumer_) + " waited for its next item");
        scope_.cancelled_ = true;
        scope_.update();
        body.wait = nullptr;
        body.woken_by = Wake::cancelled;
        if (current == nullptr || &current->scheduler != &body.scheduler) {
            body.scheduler.make_ready(body);
        } else {
            current->scheduler.run_for(*current, body);
            if (!done()) {
                ItemWait wait(*current, *this);
                wait.uncancellable = true;
                waiting_ = &wait;
                current->scheduler.suspend(wait); // throws nothing, being uncancellable
            }
        }
    }
    release();
}

// The scopes of whoever asks are around the body's while it does, and none are in between.
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
