#include "stream_state.hpp"

#include <weft/coro/tasks/await.hpp>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

namespace weft::coro {

void Stream::write(Bytes data, Deadline deadline) {
    detail::StreamState& state = this->state("write");
    detail::Coroutine& self = detail::running("write");
    if (self.scheduler.goes_on(self) && self.scheduler.core().cork().add(state.cork_owner, data))
        [[likely]]
        return;
    const detail::StreamState::Use use(state);
    self.scheduler.checkpoint_in_memory(self);
    if (data.size() > detail::longest_copy) [[unlikely]]
        return state.write_borrowed(self, data, deadline.at());
    if (state.writing_paused) [[unlikely]]
        state.wait_for_room(self, "write", deadline.at());
    state.gathering("write").write(data);
}

void Stream::write(Buffer&& data, Deadline deadline) {
    detail::StreamState& state = this->state("write");
    detail::Coroutine& self = detail::running("write");
    if (self.scheduler.goes_on(self) &&
        self.scheduler.core().cork().add_small(state.cork_owner, data)) [[likely]]
        return data.clear();
    write_otherwise(state, self, data, deadline);
}

[[gnu::noinline]] void Stream::write_otherwise(detail::StreamState& state, detail::Coroutine& self,
                                               Buffer& data, Deadline deadline) {
    const detail::StreamState::Use use(state);
    self.scheduler.checkpoint_in_memory(self);
    if (state.writing_paused) [[unlikely]]
        state.wait_for_room(self, "write", deadline.at());
    Transport& transport = state.gathering("write");
    self.scheduler.charge(self, data.size());
    transport.write(std::move(data));
}

void Stream::write_all(std::span<const Bytes> pieces, Deadline deadline) {
    detail::StreamState& state = this->state("write_all");
    detail::Coroutine& self = detail::running("write_all");
    const detail::StreamState::Use use(state);
    self.scheduler.checkpoint(self);
    if (state.writing_paused) state.wait_for_room(self, "write_all", deadline.at());
    state.gathering("write_all").write_all(pieces);
}

void Stream::write_all(std::initializer_list<std::string_view> pieces, Deadline deadline) {
    std::vector<Bytes> more;
    std::array<Bytes, 16> few;
    std::span<Bytes> all = std::span(few).first(std::min(pieces.size(), few.size()));
    if (pieces.size() > few.size()) {
        more.resize(pieces.size());
        all = more;
    }
    std::transform(pieces.begin(), pieces.end(), all.begin(),
                   [](std::string_view piece) { return bytes_of(piece); });
    write_all(std::span<const Bytes>(all), deadline);
}

void Stream::flush() {
    weft::detail::core_of(state("flush").connection("flush").loop()).cork().flush();
}

void Stream::drain(Deadline deadline) {
    detail::StreamState& state = this->state("drain");
    detail::Coroutine& self = detail::running("drain");
    const detail::StreamState::Use use(state);
    self.scheduler.checkpoint(self);
    weft::detail::core_of(state.connection("drain").loop()).cork().flush();
    state.wait_for_room(self, "drain", deadline.at());
    (void)state.connection("drain");
}

std::uint64_t Stream::send_file(int file, std::uint64_t offset, std::optional<std::uint64_t> count,
                                Deadline deadline) {
    detail::StreamState& state = this->state("send_file");
    detail::check_cancelled("send_file");
    const detail::StreamState::Use use(state);
    Transport& transport = state.writable("send_file");
    Future<std::uint64_t> sent = transport.send_file(file, offset, count);
    try {
        detail::wait_for_future(sent.state_ref().get(), true, deadline.at());
    } catch (...) { // the file stands among the writes, and is the caller's again
        if (state.transport != nullptr) state.transport->abort();
        state.end();
        throw;
    }
    return sent.take();
}

void Stream::write_eof() {
    detail::StreamState& state = this->state("write_eof");
    if (state.eof_sent) return;
    state.writable("write_eof").write_eof();
    state.eof_sent = true;
}

} // namespace weft::coro
