#pragma once

#include "stream_transport.hpp"

namespace weft::detail {

/// Calls the user with writes gathered, and turns what comes out into the connection's end. False
/// if it threw. Calls come from the loop, never from inside another callback, so the cork buffer is
/// free.
template<class Call>
[[gnu::always_inline]] inline bool StreamTransport::guarded(const char* name, Call&& call) {
    CorkScope gathering(core_.cork(), *this, may_gather());
    try {
        call();
    } catch (...) {
        gathering.drop();
        callback_threw(name);
        return false;
    }
    gathering.flush();
    return true;
}

} // namespace weft::detail
