#include "load_run.hpp"

#include "load_report.hpp"

#include <weft/transports/connect/connect.hpp>
#include <weft/transports/datagram/udp.hpp>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <utility>

namespace weft::tools {
namespace {

/// Connection attempts at a time: below any listen backlog.
constexpr std::size_t attempts_at_once = 100;
/// Messages that the open loop sends in one turn when it is behind, before answers are looked at.
constexpr int burst = 1024;
/// How often progress is shown and lost datagrams are looked for.
constexpr auto tick_interval = std::chrono::milliseconds(100);

Duration seconds(double count) {
    return Duration(std::chrono::duration<double>(count));
}

} // namespace

LoadRun::LoadRun(const LoadOptions& options)
    : options_(options), pattern_(options.size, options.lines) {
    std::size_t i = 0;
    for (int number : {SIGINT, SIGTERM}) {
        signals_[i++] = loop_
                            .on_signal(number,
                                       [this, number] {
                                           // Somebody who asks twice has lost patience.
                                           if (std::exchange(signal_, number) != 0)
                                               std::_Exit(128 + number);
                                           if (stage_ == Stage::measuring) measure_to_ = now();
                                           over();
                                       })
                            .value();
    }
}

void LoadRun::run() {
    ticker_ = loop_.call_every(tick_interval, [this] { tick(); });
    // Not from inside `connect_more`: an attempt that fails at once would settle before the others
    // began.
    loop_.call_soon([this] { connect_more(); });
    loop_.run();
    ticker_.cancel();
    clear_progress(*this);
    if (measure_from_ < measure_to_ && measure_to_ != TimePoint::max()) {
        result_.seconds = std::chrono::duration<double>(measure_to_ - measure_from_).count();
    }
}

void LoadRun::connect_more() {
    while (stage_ == Stage::connecting && begun_ < options_.connections &&
           begun_ - settled_ < attempts_at_once) {
        ++begun_;
        options_.target == LoadOptions::Target::udp ? connect_datagram() : connect_one();
    }
}

void LoadRun::connect_one() {
    ConnectOptions options;
    options.timeout = seconds(options_.timeout);
    auto client = make_stream_client(*this, begun_);
    auto attempt =
        options_.target == LoadOptions::Target::tcp
            ? tcp::connect(loop_, options_.address, std::move(client), std::move(options))
            : unix_socket::connect(loop_, options_.address, std::move(client), std::move(options));
    attempt.add_done_callback([this](const Future<TransportRef>& done) {
        if (done.cancelled()) return attempted(nullptr);
        try {
            (void)done.result();
            attempted(nullptr);
        } catch (const std::system_error& error) {
            const Error what{error.code(), error.what()};
            attempted(&what);
        }
    });
    attempts_.push_back(std::move(attempt));
}

void LoadRun::connect_datagram() {
    auto made = udp::connect(loop_, options_.address, make_datagram_client(*this, begun_));
    const Error error = made ? Error{} : Error{made.error().code, made.error().message()};
    loop_.call_soon([this, bad = !made.ok(), error] { attempted(bad ? &error : nullptr); });
}

void LoadRun::attempted(const Error* error) {
    ++settled_;
    if (stage_ == Stage::over) return stop_if_empty();
    if (error != nullptr) {
        failed(error->context);
        if (error->code == Errc::bad_address) {
            // The others would be told the same.
            bad_address_ = true;
            return over();
        }
    }
    connect_more();
    if (stage_ == Stage::connecting && settled_ == options_.connections) start();
}

void LoadRun::joined(LoadClient& client) {
    clients_.push_back(&client);
    if (stage_ == Stage::over) client.close();
}

void LoadRun::left(LoadClient& client) {
    if (stage_ != Stage::over && client.outstanding() != 0) {
        failed("message lost with its connection", client.outstanding());
    }
    std::erase(clients_, &client);
    if (stage_ == Stage::connecting) return;
    if (clients_.empty()) {
        if (stage_ == Stage::measuring) measure_to_ = now();
        return over();
    }
    finish_if_done();
}

void LoadRun::start() {
    result_.connected = clients_.size();
    if (clients_.empty()) return over();
    stage_ = Stage::warmup;
    started_ = now();
    measure_from_ = add_saturated(started_, seconds(options_.warmup));
    measure_to_ = add_saturated(measure_from_, seconds(options_.duration));
    stage_timer_ = loop_.call_at(measure_from_, [this] { measure(); });
    if (options_.rate > 0) return open_loop_turn();
    for (LoadClient* client : std::vector(clients_)) {
        for (std::size_t i = 0; i < options_.depth; ++i)
            send_to(*client, now());
    }
}

TimePoint LoadRun::due_of(std::uint64_t number) const noexcept {
    return started_ + seconds(static_cast<double>(number) / options_.rate);
}

void LoadRun::open_loop_turn() {
    // Late or not, each message counts from when it was due: a service that stalls is charged for
    // every message that had to wait meanwhile.
    const TimePoint now = this->now();
    for (int i = 0; i < burst && due_of(planned_) <= now && !clients_.empty(); ++i, ++planned_) {
        if (due_of(planned_) >= measure_to_) return;
        send_to(*clients_[planned_ % clients_.size()], due_of(planned_));
    }
    schedule_ = loop_.call_at(due_of(planned_), [this] { open_loop_turn(); });
}

void LoadRun::send_to(LoadClient& client, TimePoint due) {
    result_.sent += measured(due);
    client.send_message(due);
}

void LoadRun::measure() {
    stage_ = Stage::measuring;
    stage_timer_ = loop_.call_at(measure_to_, [this] { finish(); });
}

void LoadRun::answered(TimePoint due, TimePoint now) {
    result_.answered += measured(now);
    if (measured(due)) result_.latency.add(static_cast<std::uint64_t>((now - due).count()));
    if (stage_ == Stage::finishing) finish_if_done();
}

void LoadRun::next(LoadClient& client, TimePoint now) {
    if (options_.rate > 0 || (stage_ != Stage::warmup && stage_ != Stage::measuring)) return;
    send_to(client, now);
}

void LoadRun::finish() {
    stage_ = Stage::finishing;
    schedule_.cancel();
    stage_timer_ = loop_.call_later(seconds(options_.timeout), [this] { over(); });
    finish_if_done();
}

void LoadRun::finish_if_done() {
    if (stage_ != Stage::finishing) return;
    if (std::ranges::all_of(clients_, [](LoadClient* c) { return c->outstanding() == 0; })) over();
}

void LoadRun::over() {
    if (std::exchange(stage_, Stage::over) != Stage::over) {
        schedule_.cancel();
        stage_timer_.cancel();
        for (LoadClient* client : std::vector(clients_)) {
            // A run that is ended by a signal still has answers under way.
            if (signal_ == 0 && client->outstanding() != 0) {
                failed("no answer by the end", client->outstanding());
            }
            client->close();
        }
        for (auto& attempt : attempts_) {
            if (!attempt.done()) attempt.cancel();
        }
    }
    stop_if_empty();
}

void LoadRun::stop_if_empty() {
    if (clients_.empty() && settled_ == begun_) loop_.stop();
}

void LoadRun::tick() {
    const TimePoint long_ago = now() - seconds(options_.timeout);
    for (LoadClient* client : std::vector(clients_))
        client->expire(long_ago);
    finish_if_done();
    if (stage_ != Stage::warmup && stage_ != Stage::measuring) return;
    const double done = std::chrono::duration<double>(now() - started_).count();
    show_progress(*this, done / (options_.warmup + options_.duration),
                  static_cast<double>(result_.answered - shown_answers_) /
                      std::chrono::duration<double>(tick_interval).count());
    shown_answers_ = result_.answered;
}

} // namespace weft::tools
