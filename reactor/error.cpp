#include <weft/reactor/error.hpp>

#include <cstddef>
#include <new>

namespace weft {
namespace {

class WeftCategory final : public std::error_category {
public:
    const char* name() const noexcept override { return "weft"; }
    std::string message(int value) const override {
        switch (static_cast<Errc>(value)) {
        case Errc::aborted:
            return "aborted";
        case Errc::broken_promise:
            return "the promise was destroyed without an outcome";
        case Errc::invalid_state:
            return "not possible in this state";
        case Errc::closed:
            return "already closed";
        case Errc::too_long:
            return "message longer than the limit";
        case Errc::malformed:
            return "malformed message";
        case Errc::incomplete:
            return "the stream ended inside a message";
        case Errc::forked:
            return "used in a forked child; call Loop::after_fork() first";
        case Errc::deadlock:
            return "nothing can ever wake this loop";
        case Errc::queue_full:
            return "the queue is full";
        case Errc::empty_buffer:
            return "get_buffer() returned no room";
        case Errc::bad_address:
            return "not an address";
        case Errc::callback_threw:
            return "a callback of the protocol threw";
        case Errc::not_an_event_fd:
            return "this kind of file can not be waited for";
        }
        return "unknown weft error " + std::to_string(value);
    }
};

} // namespace

const std::error_category& weft_category() noexcept {
    // Never destroyed: loops of static storage, and threads, ask for texts while the process ends.
    alignas(WeftCategory) static std::byte place[sizeof(WeftCategory)];
    static const WeftCategory& category = *::new (static_cast<void*>(place)) WeftCategory;
    return category;
}

std::error_code make_error_code(Errc code) noexcept {
    return {static_cast<int>(code), weft_category()};
}

std::string Error::message() const {
    return context.empty() ? code.message() : context + ": " + code.message();
}

void detail::refuse_option(const char* option, const std::string& value, const char* rule) {
    throw UsageError(std::string(option) + " is " + value + ", and " + rule);
}

} // namespace weft
