#include "stream_support.hpp"

#include <array>

using namespace weft;
using namespace weft::test;
using coro::Stream;

// Each scenario is run over and over, and somebody in it is cancelled after 0, 1, 2 … turns: at
// every place where it suspends. What it took before that and what is found afterwards must be
// everything, once.

namespace {

/// Cancels `victim` after so many turns; returns when it has ended.
struct Cancel {
    int turns;
    void operator()(coro::Task<void>& victim) const {
        for (int i = 0; i < turns && !victim.done(); ++i)
            coro::yield();
        victim.cancel();
        victim.wait();
    }
};

template<class Scenario>
void sweep(Scenario scenario) {
    WEFT_TEST_KERNEL(all_kernels);
    for (int turns = 0; turns < 40; ++turns) {
        INFO("cancelled after turns: " << turns);
        run_on(kernel_kind, [&] {
            scenario(Cancel{turns});
            settle();
            CHECK(coro::all_tasks().size() == 1);
        });
    }
}

const std::string script = "alpha\nbeta\ngamma\ndelta\nepsilon\nzeta\n";

/// Writes `script` in little pieces, each in a turn of its own.
coro::Task<void> write_script(Stream& to, std::size_t piece = 2) {
    return coro::spawn([&to, piece] {
        for (std::size_t at = 0; at < script.size(); at += piece) {
            to.write(std::string_view(script).substr(at, piece));
            coro::yield();
        }
        to.write_eof();
    });
}

/// A scenario in which the victim reads: `read(stream, got)` adds what it takes to `got`.
template<class Read>
void sweep_reading(Read read) {
    sweep([&](Cancel cancel) {
        auto [near, far] = tcp_streams();
        auto writer = write_script(near);
        std::string got;
        auto victim = coro::spawn([&, &stream = far] { read(stream, got); });
        cancel(victim);
        got += far.read_to_end();
        CHECK(got == script);
        writer.join();
    });
}

} // namespace

TEST_CASE("Cancelled at any point, read_some loses no byte", "[s68][s97][coro]") {
    sweep_reading([](Stream& stream, std::string& got) {
        std::array<std::byte, 5> buffer;
        while (const auto size = stream.read_some(buffer))
            got += text_of(Bytes(buffer).first(size));
    });
}

TEST_CASE("Cancelled at any point, read_exactly across pieces loses no byte", "[s68][s97][coro]") {
    sweep_reading([](Stream& stream, std::string& got) {
        for (int i = 0; i < 5; ++i) {
            got += stream.read_exactly(3);
            std::array<std::byte, 4> memory;
            stream.read_exactly(memory);
            got += text_of(memory);
        }
    });
}

TEST_CASE("Cancelled at any point, read_until and read_line lose no byte", "[s68][s97][coro]") {
    sweep_reading([](Stream& stream, std::string& got) {
        got += stream.read_until("\n");
        got += stream.read_until({"mm", "\n"});
        while (const auto line = stream.read_line())
            got += std::string(*line) + "\n";
    });
}

TEST_CASE("Cancelled at any point, peek and skip lose no byte", "[s68][s97][coro]") {
    sweep_reading([](Stream& stream, std::string& got) {
        for (;;) {
            const std::string_view shown = text_of(stream.peek(7));
            if (shown.empty()) return;
            const std::string part(shown.substr(0, 3));
            stream.skip(part.size());
            got += part;
        }
    });
}

TEST_CASE("Cancelled at any point, readers of a group lose no byte", "[s68][s53][coro]") {
    sweep([](Cancel cancel) {
        auto [a, b] = tcp_streams();
        auto [c, d] = coro::stream_pair();
        auto first = write_script(a);
        auto second = write_script(c, 3);
        std::string got_b, got_d;
        auto victim = coro::spawn([&, &one = b, &two = d] {
            coro::task_group([&](coro::TaskGroup& group) {
                const auto take = [](Stream& from, std::string& got) {
                    while (const auto line = from.read_line())
                        got += std::string(*line) + "\n";
                };
                (void)group.spawn([&] { take(one, got_b); });
                (void)group.spawn([&] { take(two, got_d); });
            });
        });
        cancel(victim);
        CHECK(got_b + b.read_to_end() == script);
        CHECK(got_d + d.read_to_end() == script);
        first.join();
        second.join();
    });
}

TEST_CASE("Cancelled at any point, a writer has written what it thinks it has", "[s68][coro]") {
    sweep([](Cancel cancel) {
        auto [near, far] = coro::stream_pair();
        const std::string piece = numbers(30'000);
        std::size_t pieces = 0;
        auto victim = coro::spawn([&, &stream = near] {
            for (; pieces < 30; ++pieces)
                stream.write(piece);
        });
        std::string got;
        auto reader = coro::spawn([&, &stream = far] {
            std::vector<std::byte> buffer(20'000);
            while (const auto size = stream.read_some(buffer)) {
                got += text_of(Bytes(buffer).first(size));
                coro::yield();
            }
        });
        cancel(victim);
        near.write_eof();
        reader.join();
        CHECK(got.size() == pieces * piece.size());
        CHECK(got.ends_with(pieces == 0 ? std::string() : piece));
    });
}

TEST_CASE("Cancelled at any point, accept loses no connection", "[s68][coro]") {
    sweep([](Cancel cancel) {
        coro::Listener listener("127.0.0.1:0");
        const std::string address = listener.addresses().front().to_string();
        std::vector<Stream> accepted, clients;
        auto victim = coro::spawn([&] {
            for (;;) {
                Stream next = listener.accept();
                accepted.push_back(std::move(next));
            }
        });
        auto connecting = coro::spawn([&] {
            for (int i = 0; i < 5; ++i) {
                clients.push_back(coro::connect(address));
                clients.back().write(std::to_string(i) + "\n");
            }
        });
        cancel(victim);
        connecting.join();
        while (accepted.size() < 5)
            accepted.push_back(listener.accept(1h));
        int sum = 0;
        for (Stream& peer : accepted)
            sum += std::stoi(std::string(peer.read_line().value()));
        CHECK(sum == 0 + 1 + 2 + 3 + 4);
    });
}

TEST_CASE("Cancelled at any point, connect gives a stream or leaves nothing", "[s68][s102][coro]") {
    sweep([](Cancel cancel) {
        coro::Listener listener("127.0.0.1:0");
        const std::string address = listener.addresses().front().to_string();
        std::vector<Stream> clients;
        auto victim = coro::spawn([&] {
            for (int i = 0; i < 6; ++i) {
                clients.push_back(coro::connect(address));
                coro::yield();
            }
        });
        cancel(victim);
        for (Stream& client : clients) {
            CHECK(client.is_open());
            client.write("here\n");
        }
        std::size_t answered = 0;
        while (answered < clients.size()) {
            Stream peer = listener.accept(1h);
            // One whose connecting was cancelled ends without a word.
            try {
                if (peer.read_line()) ++answered;
            } catch (const std::system_error&) {
            }
        }
    });
}

TEST_CASE("Cancelled at any point, no datagram is lost or doubled", "[s68][s104][coro]") {
    sweep([](Cancel cancel) {
        auto from = coro::DatagramSocket::bind("127.0.0.1:0");
        auto to = coro::DatagramSocket::bind("127.0.0.1:0");
        std::string got, wanted;
        const auto take = [&] {
            std::array<std::byte, 16> buffer;
            const auto datagram = to.recv_from(buffer, 1h);
            got += text_of(Bytes(buffer).first(datagram.size));
        };
        auto victim = coro::spawn([&] {
            for (;;) {
                take();
                for (const Datagram& datagram : to.recv_batch(2))
                    got += text_of(datagram.data);
            }
        });
        auto sender = coro::spawn([&] {
            for (int i = 0; i < 20; ++i) {
                const std::string text = std::to_string(i) + ' ';
                from.send_to(bytes_of(std::string_view(text)), to.local_address());
                wanted += text;
                if (i % 3 == 0) coro::yield();
            }
        });
        cancel(victim);
        sender.join();
        while (got.size() < wanted.size())
            take();
        CHECK(got == wanted);
    });
}

TEST_CASE("Cancelled at any point, an upgrade loses no byte", "[s68][s92][coro]") {
    sweep([](Cancel cancel) {
        struct Recorder final : Protocol {
            explicit Recorder(std::string& t) : text(t) {}
            void data_received(Bytes data) override { text += text_of(data); }
            std::string& text;
        };
        auto [near, far] = tcp_streams();
        auto writer = write_script(near);
        std::string got;
        auto victim = coro::spawn([&, &stream = far] {
            for (int i = 0; i < 3; ++i)
                got += std::string(stream.read_line().value()) + "\n";
            coro::yield();
            (void)stream.release(std::make_unique<Recorder>(got));
            coro::yield();
        });
        cancel(victim);
        if (far.state() != nullptr) got += far.read_to_end();
        writer.join();
        for (int i = 0; i < 1000 && got.size() < script.size(); ++i)
            coro::yield();
        CHECK(got == script);
    });
}

TEST_CASE("Cancelled at any point, serve ends and lets go of everybody", "[s68][s101][coro]") {
    for (const Duration grace : {Duration(0), Duration(1)}) {
        sweep([grace](Cancel cancel) {
            std::string address;
            auto victim = coro::spawn([&] {
                coro::ServeOptions options;
                options.grace = grace;
                options.started = [&](const std::vector<Address>& addresses) {
                    address = addresses.front().to_string();
                };
                coro::serve(
                    "127.0.0.1:0",
                    [](Stream& peer) {
                        while (const auto line = peer.read_line())
                            peer.write_all({*line, "\n"});
                    },
                    std::move(options));
            });
            auto clients = coro::spawn([&] {
                while (address.empty())
                    coro::yield();
                for (int i = 0; i < 3; ++i) {
                    try {
                        Stream client = coro::connect(address);
                        for (int line = 0; line < 3; ++line) {
                            client.write("line\n");
                            if (!client.read_line()) break;
                        }
                    } catch (const std::system_error&) { // it has ended meanwhile
                    }
                }
            });
            cancel(victim);
            if (address.empty()) clients.cancel();
            clients.wait();
        });
    }
}
