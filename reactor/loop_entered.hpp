#pragma once

#include <weft/reactor/loop_core.hpp>

#include <string>

namespace weft::detail {

/// Marks the loop as running, on this thread, for as long as it lives. At its end an embedded loop
/// is left so that its host hears of what is to be done.
class LoopCore::Entered {
public:
    /// `nests`: also inside a callback of another loop.
    Entered(LoopCore& loop, const char* what, bool nests = false) : loop_(loop), outer_(current) {
        const auto refuse = [what](const char* why) {
            throw UsageError(std::string(what) + ": " + why);
        };
        if (loop.state_ == State::closed) refuse("the loop is closed");
        if (loop.running_ || loop.in_turn_) refuse("called inside a callback of this loop");
        if (loop.host_.in_hook) refuse("called inside the on_wake hook of this loop");
        if (outer_ != nullptr && !nests)
            refuse("called inside a callback of another loop, where only `step` is possible");
        if (loop.host_.embedded) loop.kernel_->announce(false);
        loop.running_ = true;
        loop.mailbox_->set_owner(std::this_thread::get_id());
        loop.blocks_->enter();
        loop.allowance_ = {};
        if (outer_ != nullptr)
            for (const auto& front_end : outer_->front_ends_)
                front_end->step_aside();
        current = &loop;
    }
    ~Entered() {
        loop_.blocks_->leave();
        loop_.in_turn_ = false;
        loop_.running_ = false;
        loop_.stopping_ = false;
        loop_.limited_ = false;
        loop_.allowance_ = {};
        current = outer_;
        if (outer_ != nullptr)
            for (const auto& front_end : outer_->front_ends_)
                front_end->step_back();
        if (loop_.host_.embedded) {
            loop_.hand_to_host();
        } else {
            loop_.mailbox_->set_owner({});
        }
    }
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

    // The loop that runs on this thread.
    static inline thread_local LoopCore* current = nullptr;

private:
    LoopCore& loop_;
    LoopCore* outer_;
};

} // namespace weft::detail
