#pragma once

#include <weft/coro/net/stream.hpp>
#include <weft/protocols/codecs/decoder.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#pragma GCC visibility push(default)

namespace weft::coro {

/// What a peer sent is no message: `Errc::too_long` or `Errc::malformed`; the text names the
/// framing.
struct FramingError : std::system_error {
    FramingError(const Error& error, std::size_t size)
        : std::system_error(error.code, error.context), announced(size) {}
    /// The size that the message refused has announced, or a part of it; 0 if it announced none.
    std::size_t announced;
};

/// Reads messages from a stream, cut out of it by a framer: lines, length prefixes, heads with
/// bodies, one of your own.
///
///     coro::MessageReader requests(peer, LengthFramer(4));
///     while (const auto request = requests.read()) handle(*request);
///
/// A message that has come as a whole is a view of the stream's input and nothing is copied. While
/// much is missing of a large one whose size is known, that is received straight into its place.
/// Between two messages the reader holds nothing, and what comes behind a message stays in the
/// stream: anything else may read on from there.
///
/// It refers to its stream, which has to live longer and not be moved. For coroutines of the
/// stream's loop, one at a time.
template<Framer F>
class MessageReader {
public:
    /// What a message is: `Bytes`, unless the framer makes something else of them.
    using Message = MessageOf<F>;

    explicit MessageReader(Stream& stream, F framer = F())
        : stream_(stream), decoder_(std::move(framer)) {}
    MessageReader(const MessageReader&) = delete;
    MessageReader& operator=(const MessageReader&) = delete;

    /// The next message, without what frames it; empty at the end of the stream. Valid until the
    /// next call, and the next read from the stream. Suspends while there is no whole one. When it
    /// is cancelled or the deadline comes, nothing is lost: the next call goes on. `IncompleteRead`
    /// if the stream ends inside a message, with what had come of it; `FramingError` if the bytes
    /// are none, from then on. Else as every read of a stream.
    std::optional<Message> read(Deadline deadline = {}) {
        decoder_.release();
        while (true) {
            auto found = decoder_.wants_room() ? receive(deadline) : take(deadline);
            if (found) return std::move(found.message);
            if (decoder_.failed()) throw FramingError(decoder_.error(), decoder_.announced());
            if (ended_) return end();
        }
    }

    /// An owner of `part` of the message that `read` has returned last, for whoever keeps it
    /// longer. Without a copy where that saves one: of a large message it is the memory that it was
    /// received into.
    Buffer keep(Bytes part) const {
        return decoder_.holds(part) ? decoder_.keep(part) : stream_.keep(part);
    }

    /// What has been taken of the message that is not complete, or was refused. Valid until the
    /// next call.
    Bytes partial() const noexcept { return decoder_.partial(); }
    const F& framer() const noexcept { return decoder_.framer(); }
    Stream& stream() const noexcept { return stream_; }

private:
    using Next = typename Decoder<F>::Next;

    /// From what has come, waiting if that is nothing.
    Next take(Deadline deadline) {
        const Bytes input = stream_.peek(1, deadline);
        ended_ = input.empty();
        Bytes rest = input;
        Next found = decoder_.next(rest);
        stream_.skip(input.size() - rest.size());
        return found;
    }
    /// Into the place of what is missing.
    Next receive(Deadline deadline) {
        const std::size_t size = stream_.read_some(decoder_.room(), deadline);
        ended_ = size == 0;
        return ended_ ? Next() : decoder_.filled(size);
    }
    std::optional<Message> end() {
        if (const Result<void> end = decoder_.end(); !end.ok())
            throw IncompleteRead(end.error().context, std::string(text_of(decoder_.partial())));
        return {};
    }

    Stream& stream_;
    Decoder<F> decoder_;
    bool ended_ = false;
};

} // namespace weft::coro

#pragma GCC visibility pop
