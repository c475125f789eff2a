#pragma once

#include <weft/reactor/loop.hpp>

#include <string>

namespace weft {

/// Marks the loop as being inside `run` or a turn, for as long as it lives.
class Loop::Entered {
public:
    Entered(Loop& loop, bool& flag, const char* what) : flag_(flag), outer_(current) {
        loop.check_usable(what);
        if (loop.running_ || loop.in_turn_) throw UsageError(std::string(what) + ": this loop is already running");
        if (outer_ != nullptr) throw UsageError(std::string(what) + ": another loop is running on this thread");
        flag_ = true;
        current = &loop;
    }
    ~Entered() {
        flag_ = false;
        current = outer_;
    }
    Entered(const Entered&) = delete;
    Entered& operator=(const Entered&) = delete;

private:
    // The loop that runs on this thread.
    static inline thread_local Loop* current = nullptr;
    bool& flag_;
    Loop* outer_;
};

} // namespace weft
