#include <weft/reactor/error.hpp>
#include <weft/reactor/reporter.hpp>

#include <utility>

namespace weft::detail {
namespace {

std::string describe(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& e) {
        return e.what();
    } catch (const Cancelled&) {
        return "cancelled";
    } catch (...) {
        return "an exception that is not a std::exception";
    }
}

} // namespace

std::string scheduled_at(const std::source_location& where) {
    if (where.line() == 0) return {};
    return std::string(" (scheduled at ") + where.file_name() + ":" + std::to_string(where.line()) +
           ")";
}

void Reporter::set_handler(Function<void(const Unhandled&)> handler) {
    ++changes_;
    handler_ = std::move(handler);
}

void Reporter::report(const Unhandled& unhandled, TimePoint now) noexcept {
    try {
        if (handler_) {
            // On the stack while it runs: it may replace itself, and what goes wrong inside it is
            // logged.
            auto handler = std::move(handler_);
            const auto changes = changes_;
            struct Back {
                Reporter& reporter;
                Function<void(const Unhandled&)>& handler;
                std::uint64_t changes;
                ~Back() {
                    if (reporter.changes_ == changes) reporter.handler_ = std::move(handler);
                }
            } back{*this, handler, changes};
            try {
                handler(unhandled);
                return;
            } catch (...) {
                log(LogLevel::error, "the handler given to on_unhandled threw: " +
                                         describe(std::current_exception()));
            }
        }
        if (!unhandled_.admits(LogLevel::error, now)) return;
        log(LogLevel::error,
            std::string(unhandled.message) + scheduled_at(unhandled.scheduled) +
                (unhandled.exception ? ": " + describe(unhandled.exception) : std::string()));
    } catch (...) {
        log(LogLevel::error, "an unhandled exception could not be described: out of memory");
    }
}

} // namespace weft::detail
