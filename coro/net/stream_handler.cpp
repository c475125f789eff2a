#include "accepted_stream.hpp"

#include <weft/coro/net/message_reader.hpp>

#include <memory>
#include <string>
#include <system_error>
#include <utility>

namespace weft::coro {

namespace detail {
namespace {

/// Makes a stream of its connection, and hands it on when it is connected.
class HandledProtocol final : public StreamProtocol {
public:
    HandledProtocol(std::unique_ptr<StreamState> state,
                    std::shared_ptr<StartHandler> start) noexcept
        : StreamProtocol(state.get()), waiting_(std::move(state)), start_(std::move(start)) {
        state_->protocol = this;
    }
    void connection_made(Transport& transport) override {
        StreamProtocol::connection_made(transport);
        const auto start = std::move(start_);
        (*start)(Stream(std::move(waiting_)));
    }

private:
    std::unique_ptr<StreamState> waiting_; // until the connection is made
    std::shared_ptr<StartHandler> start_;
};

} // namespace

ProtocolFactory factory_for(StartHandler start) {
    return
        [start = std::make_shared<StartHandler>(std::move(start))]() -> std::unique_ptr<Protocol> {
            return std::make_unique<HandledProtocol>(std::make_unique<StreamState>(), start);
        };
}

void handle(StreamHandler& handler, Stream& stream, Scheduler& scheduler) {
    const auto failed = [&] {
        const std::string what =
            stream.state() != nullptr
                ? stream.state()->describe("the handler of the connection", " with ")
                : std::string("the handler of a connection that it gave away");
        stream.abort();
        scheduler.report_exception(what);
    };
    try {
        handler(stream);
    } catch (const Cancelled&) {
        stream.abort();
        throw;
    } catch (const std::system_error& error) {
        // Peers that go away are the order of the day.
        if (stream.state() != nullptr && stream.state()->ended_by(error.code()))
            return stream.abort();
        // So are those that fall silent, end in the middle of what they say, or speak another
        // language: an orderly end, and no error.
        const bool silent = dynamic_cast<const TimeoutError*>(&error) != nullptr;
        const bool wrong = dynamic_cast<const FramingError*>(&error) != nullptr;
        if (silent || wrong || dynamic_cast<const IncompleteRead*>(&error) != nullptr) {
            scheduler.core().log_limited(silent || wrong ? LogLevel::info : LogLevel::debug,
                                         error.what());
            return stream.close();
        }
        failed();
    } catch (...) {
        failed();
    }
}

} // namespace detail

ProtocolFactory stream_protocol(Loop& loop, StreamHandler handler, SpawnOptions options) {
    detail::Scheduler& scheduler = detail::Scheduler::of(loop);
    auto shared = std::make_shared<StreamHandler>(std::move(handler));
    return detail::factory_for([&scheduler, shared = std::move(shared),
                                name = std::string(options.name),
                                size = options.stack_size](Stream stream) {
        auto task = spawn(scheduler.loop(),
                          [shared, &scheduler, stream = std::move(stream)]() mutable {
                              detail::handle(*shared, stream, scheduler);
                          },
                          {.name = name, .stack_size = size});
        task.detach();
    });
}

} // namespace weft::coro
