// Files that a stream transport sends in their place among its writes.

#include "stream_transport.hpp"

#include <algorithm>
#include <cerrno>
#include <string>

namespace weft::detail {
namespace {

// Per call: enough that calls do not count, and little enough that others do not wait.
constexpr std::uint64_t most_per_call = 256 * 1024;

// When the kernel can not send a file: bytes read per call, on the stack.
constexpr std::size_t copy_size = 16 * 1024;

} // namespace

Future<std::uint64_t> StreamTransport::send_file(int file, std::uint64_t offset,
                                                 std::optional<std::uint64_t> count) {
    Promise<std::uint64_t> promise(core_.loop());
    auto future = promise.future();
    if (has(closing) || broken()) {
        promise.set_error({broken() ? extras().write_error : end_reason(), describe("send_file")});
        return future;
    }
    if (!traits().writes) throw UsageError("send_file: this end of the pipe is for reading");
    if (has(sends_no_more)) throw UsageError(describe("send_file: write_eof was called"));
    if (!has(queued)) begin_queue();
    if (in_callback()) {
        core_.cork().for_each([this](Bytes piece, Buffer* owner) { queue_rest(piece, owner); });
        core_.cork().clear();
    }
    note_room();
    // Whose future is over may close the file, and a part of it has left perhaps.
    promise.on_cancel([connection = ref()] {
        if (Transport* const open = connection.get()) open->abort();
    });
    auto part = FilePart{file, offset, count.value_or(UINT64_MAX), std::move(promise)};
    extras_->queue->append(std::make_unique<FilePart>(std::move(part)));
    queue_again(); // the disk may make us wait, so not inside the caller
    return future;
}

/// Sends a part of the file at the head of the queue, or takes it out because it is done; how many
/// bytes were sent.
std::size_t StreamTransport::flush_file(FilePart& part) {
    const auto size = static_cast<std::size_t>(std::min(part.left, most_per_call));
    Sys done = 0;
    if (size != 0) {
        if (!part.copying) done = channel().send_file(fd_, part.file, part.offset, size);
        // sendfile(2): these say that this pair of descriptors can not, not that anything is wrong.
        const int error = part.copying ? EINVAL : done.error();
        if (error == EINVAL || error == ENOSYS || error == EOPNOTSUPP) {
            part.copying = true;
            if (!copy_file(part, size, done)) return 0;
        }
    }
    if (!done.ok()) {
        if (done.would_block()) {
            flags_ &= ~writable;
        } else if (done.error() == EPIPE || done.error() == ECONNRESET) {
            send_failed(done.error());
        } else {
            fail_file(done.error());
        }
        return 0;
    }
    if (done.count() != 0) note_activity();
    part.sent += done.count();
    part.offset += done.count();
    part.left -= done.count();
    // Nothing more: all of it was sent, or the file ends here.
    if (part.left != 0 && done.count() != 0) return done.count();
    const auto finished = extras_->queue->take_file();
    finished->promise.set_value_if_pending(finished->sent);
    return done.count();
}

/// Reads and sends. False if the file could not be read, and is out of the queue.
bool StreamTransport::copy_file(const FilePart& part, std::size_t size, Sys& done) {
    std::byte buffer[copy_size];
    const Sys got =
        core_.kernel().read_file(part.file, part.offset, buffer, std::min(size, copy_size));
    if (!got.ok()) {
        fail_file(got.error());
        return false;
    }
    // What is not taken now is read again.
    done = got.count() == 0 ? got : channel().send(fd_, buffer, got.count());
    return true;
}

void StreamTransport::fail_file(int error) {
    extras_->queue->take_file()->fail(errno_code(error));
}

void StreamTransport::drop_queue(std::error_code why) {
    if (has(queued)) take_queue()->fail_files(why);
}

} // namespace weft::detail
