// KJ: promises, one buffer for each connection.

#include "peer.hpp"

#include <kj/async-io.h>
#include <kj/debug.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

namespace {

peer::Options options;

struct Connection {
    kj::Own<kj::AsyncIoStream> stream;
    peer::Lines lines;
    kj::Array<char> buffer = kj::heapArray<char>(options.buffer);
};

/// The line's own write, after those before it.
kj::Promise<void> answer_lines(Connection& connection, std::size_t size) {
    kj::Promise<void> written = kj::READY_NOW;
    connection.lines.feed({connection.buffer.begin(), size}, [&](std::string_view line) {
        auto copy = kj::heapArray<char>(line.data(), line.size());
        written = written.then([&connection, copy = kj::mv(copy)]() mutable {
            auto write = connection.stream->write(copy.begin(), copy.size());
            return write.attach(kj::mv(copy));
        });
    });
    return written;
}

kj::Promise<void> serve(Connection& connection) {
    return connection.stream->tryRead(connection.buffer.begin(), 1, connection.buffer.size())
        .then([&connection](std::size_t size) -> kj::Promise<void> {
            if (size == 0) return kj::READY_NOW;
            auto written = options.lines
                               ? answer_lines(connection, size)
                               : connection.stream->write(connection.buffer.begin(), size);
            return written.then([&connection] { return serve(connection); });
        });
}

class Failures final : public kj::TaskSet::ErrorHandler {
public:
    void taskFailed(kj::Exception&&) override {} // the connection is gone, and so is its task
};

kj::Promise<void> accept(kj::ConnectionReceiver& listener, kj::TaskSet& tasks) {
    return listener.accept().then([&](kj::Own<kj::AsyncIoStream>&& stream) {
        const int on = 1;
        stream->setsockopt(IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        auto connection = kj::heap<Connection>(Connection{kj::mv(stream), {}});
        auto conversation = serve(*connection);
        tasks.add(conversation.attach(kj::mv(connection)));
        return accept(listener, tasks);
    });
}

} // namespace

int main(int argc, char** argv) {
    options = peer::parse(argc, argv);
    if (options.udp) peer::fail("kj", "there is no echo of datagrams here");
    auto io = kj::setupAsyncIo();
    Failures failures;
    kj::TaskSet tasks(failures);
    auto address =
        io.provider->getNetwork().parseAddress("127.0.0.1", options.port).wait(io.waitScope);
    auto listener = address->listen();
    accept(*listener, tasks).wait(io.waitScope);
}
