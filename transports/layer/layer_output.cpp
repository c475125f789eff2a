// Output that a layer handles: from `write` to `send`. It waits here behind a file that is being
// sent, and while the layer holds it, in a queue that is there only then.

#include "layer_state.hpp"

#include <weft/transports/layer/layered_transport.hpp>

#include <algorithm>
#include <cstring>

namespace weft {
namespace {

// Of a file, read per call, on the stack.
constexpr std::size_t file_piece = 16 * 1024;

// Pieces that are no longer together are sent as one.
constexpr std::size_t joined = detail::BlockPool::block_size;

} // namespace

using detail::FilePart;
using detail::LayerOutput;

LayerOutput& LayeredTransport::output() {
    if (!output_) output_ = std::make_unique<LayerOutput>();
    return *output_;
}

/// Whether something was written and not sent.
bool LayeredTransport::output_waits() const noexcept {
    return output_ && !output_->queue.empty();
}

bool LayeredTransport::must_wait() const noexcept {
    return output_ && (output_->held || !output_->queue.empty());
}

/// Whether what is written now would leave. Throws where writing is a mistake.
bool LayeredTransport::takes_writes(const char* what) {
    if (is_closing() || below_->write_error()) return false;
    if (end_ != OutputEnd::none) throw UsageError(describe(what) + ": write_eof was called");
    return true;
}

void LayeredTransport::write_handled(Bytes data) {
    if (data.empty() || !takes_writes("write")) return;
    if (!must_wait()) return send(data);
    output_->queue.append(data, loop_core().blocks());
    output_changed();
}

void LayeredTransport::write(Buffer&& data) {
    if (!handles_output_) return below_->write(std::move(data));
    Buffer owned = std::move(data); // also what is dropped is no longer the caller's
    if (owned.empty() || !takes_writes("write")) return;
    if (!must_wait()) return send_owned(std::move(owned));
    output_->queue.append(std::move(owned));
    output_changed();
}

void LayeredTransport::write_all(std::span<const Bytes> pieces) {
    if (!handles_output_) return below_->write_all(pieces);
    std::size_t total = 0;
    for (const Bytes piece : pieces)
        total += piece.size();
    if (total == 0 || !takes_writes("write_all")) return;
    if (pieces.size() == 1 || total > joined || must_wait()) {
        for (const Bytes piece : pieces)
            write_handled(piece);
        return;
    }
    Buffer all = loop_core().blocks().take();
    std::byte* next = all.writable().data();
    for (const Bytes piece : pieces)
        next = std::copy(piece.begin(), piece.end(), next);
    all.truncate(total);
    send_owned(std::move(all));
}

Future<std::uint64_t> LayeredTransport::send_file(int file, std::uint64_t offset,
                                                  std::optional<std::uint64_t> count) {
    if (!handles_output_) return below_->send_file(file, offset, count);
    Promise<std::uint64_t> promise(loop());
    auto future = promise.future();
    if (!takes_writes("send_file")) {
        const std::error_code broken = below_->write_error();
        promise.set_error({broken ? broken : read_error(), describe("send_file")});
        return future;
    }
    promise.on_cancel([connection = ref()] {
        if (Transport* const open = connection.get()) open->abort();
    });
    auto part = FilePart{file, offset, count.value_or(UINT64_MAX), std::move(promise)};
    output().queue.append(std::make_unique<FilePart>(std::move(part)));
    another_turn(); // the disk may make us wait, so not inside the caller
    return future;
}

void LayeredTransport::write_eof() {
    if (is_closing() || end_ != OutputEnd::none) return;
    end_ = OutputEnd::wanted;
    if (!output_waits()) output_changed();
}

void LayeredTransport::hold_output() {
    if (!handles_output_) throw UsageError("hold_output: the layer does not handle its output");
    output().held = true;
}

void LayeredTransport::release_output() {
    if (!output_ || !std::exchange(output_->held, false)) return;
    if (output_waits()) another_turn();
}

/// Sends what waits, as far as the transport below has room, and this turn its share.
void LayeredTransport::send_waiting() {
    LayerOutput& out = *output_;
    for (std::size_t sent = 0; output_waits() && !out.held && !below_is_full_;) {
        if (below_->is_closing()) return;
        if (sent >= loop_core().options().bytes_per_turn) {
            another_turn();
            break;
        }
        if (out.queue.file() != nullptr) {
            sent += send_file_part();
        } else {
            Buffer piece = out.queue.take_bytes();
            sent += piece.size();
            send_owned(std::move(piece));
        }
    }
    output_changed();
}

/// Sends a part of the file that is next, or takes it out because it is done; how many bytes.
std::size_t LayeredTransport::send_file_part() {
    LayerOutput& out = *output_;
    FilePart& part = *out.queue.file();
    std::byte buffer[file_piece];
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(part.left, sizeof buffer));
    const Sys got =
        size == 0 ? Sys(0) : loop_core().kernel().read_file(part.file, part.offset, buffer, size);
    if (!got.ok()) {
        out.queue.take_file()->fail(got.code());
        return 0;
    }
    part.sent += got.count();
    part.offset += got.count();
    part.left -= got.count();
    // What `send` leads to may drop the queue, and the file with it.
    const bool done = part.left == 0 || got.count() == 0;
    const std::unique_ptr<FilePart> finished = done ? out.queue.take_file() : nullptr;
    if (got.count() != 0) send(Bytes(buffer, got.count()));
    if (finished) finished->promise.set_value_if_pending(finished->sent);
    return got.count();
}

/// Compares what waits with the water marks, and does what had to wait until nothing does.
void LayeredTransport::output_changed() {
    if (output_) {
        const WriteLimits limits = write_buffer_limits();
        // What gathers below and is about to leave does not count, as in any transport.
        const std::size_t below = below_is_full_ ? below_->write_buffer_size() : 0;
        const std::size_t size = output_->queue.size() + below;
        if (output_waits() && size > limits.high) {
            output_->over = true;
        } else if (output_->over && size <= limits.low) {
            output_->over = false;
            for (auto& waiter : std::exchange(output_->drain_waiters, {}))
                waiter.set_value_if_pending();
        }
        update_pressure();
    }
    if (output_waits()) return;
    if (end_ == OutputEnd::wanted) {
        end_ = OutputEnd::sent;
        send_eof();
        // Both directions have ended, and the transport below leaves that to the layer.
        if (phase_ == Phase::open && input_ && input_->over() && !ended_above_) close({});
    }
    if (phase_ == Phase::closing && !below_->is_closing()) {
        const TimePoint limit = output_ ? output_->limit.when() : TimePoint::max();
        if (output_) output_->limit.cancel();
        close_below(output_ ? output_->reason : std::error_code());
        if (limit != TimePoint::max()) below_->close_within(limit - loop().now());
    }
}

void LayeredTransport::drop_output(std::error_code why) {
    if (!output_) return;
    output_->limit.cancel();
    output_->over = false;
    detail::WriteQueue dropped = std::exchange(output_->queue, {});
    dropped.fail_files(why);
    for (auto& waiter : std::exchange(output_->drain_waiters, {}))
        waiter.set_error_if_pending({why, describe("drain")});
}

void LayeredTransport::close_within(Duration limit) {
    close({});
    if (!output_waits()) return below_->close_within(limit);
    const TimePoint end = loop().deadline_in(limit);
    if (end >= output_->limit.when()) return;
    output_->limit =
        loop().call_at(end, [this] { abort(std::make_error_code(std::errc::timed_out)); });
}

// --- Water marks ---

void LayeredTransport::pause_writing() {
    below_is_full_ = true;
    if (const std::error_code broken = below_->write_error()) drop_output(broken);
    update_pressure();
}

void LayeredTransport::resume_writing() {
    below_is_full_ = false;
    if (output_waits()) return send_waiting();
    update_pressure();
}

void LayeredTransport::update_pressure() {
    const bool full = below_is_full_ || (output_ && output_->over);
    if (full == told_to_pause_ || !announced_) return;
    told_to_pause_ = full;
    try {
        full ? above_->pause_writing() : above_->resume_writing();
    } catch (...) {
        loop_core().report_exception(describe(full ? "pause_writing" : "resume_writing"));
    }
}

void LayeredTransport::set_write_buffer_limits(std::size_t high, std::optional<std::size_t> low) {
    below_->set_write_buffer_limits(high, low);
    if (output_) output_changed();
}

std::size_t LayeredTransport::write_buffer_size() const noexcept {
    return below_->write_buffer_size() + (output_ ? output_->queue.size() : 0);
}

Future<void> LayeredTransport::drain() {
    if (!output_ || !output_->over) return below_->drain();
    Promise<void> promise(loop());
    Future<void> future = promise.future();
    auto& waiters = output_->drain_waiters;
    std::erase_if(waiters, [](const Promise<void>& waiter) { return !waiter.pending(); });
    waiters.push_back(std::move(promise));
    return future;
}

void LayeredTransport::Core::own_queued() {
    if (layer_.output_) layer_.output_->queue.own();
    layer_.core_below().own_queued();
}

} // namespace weft
