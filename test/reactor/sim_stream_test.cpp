#include "reactor/sim_support.hpp"

#include <sys/uio.h>

using namespace weft;
using namespace weft::test;
using namespace std::chrono_literals;
using sim::SimKernel;
using sim::SimOptions;

TEST_CASE("Connecting is in progress first, then writable with the outcome in SO_ERROR [F23]") {
    SimKernel kernel;
    const int listener = listen_at(kernel);
    const Address at = local(kernel, listener);
    CHECK(at.port() >= 32768);
    CHECK(kernel.is_listening(listener));
    const int client = open_socket(kernel);
    REQUIRE(kernel.add(client, 1, Interest::stream).ok());
    CHECK(bits(kernel, 1) == (out | hup));
    CHECK(kernel.connect(client, at).error() == EINPROGRESS);
    CHECK(bits(kernel, 1) == out);
    CHECK(look(kernel).empty()); // an edge is reported once
    CHECK(pending_error(kernel, client) == 0);
    CHECK(kernel.connect(client, at).error() == 0);
    CHECK(kernel.connect(client, at).error() == EISCONN);
    Address from;
    const Sys server = kernel.accept(listener, from);
    REQUIRE(server.ok());
    CHECK(from == local(kernel, client));
    CHECK(peer(kernel, server.fd()) == from);
    CHECK(peer(kernel, client) == at);
    CHECK(local(kernel, server.fd()) == at);
    CHECK(kernel.accept(listener, from).error() == EAGAIN);
    CHECK(!kernel.is_listening(server.fd()));
}

TEST_CASE("Readiness has the bits that epoll reports for TCP [F10]") {
    SimKernel kernel;
    Pair pair(kernel);
    const auto client = [&] { return state_of(kernel, pair.client); };
    const auto server = [&] { return state_of(kernel, pair.server); };
    CHECK(client() == out);
    CHECK(state_of(kernel, pair.listener) == 0);
    send_text(kernel, pair.server, "x");
    CHECK(client() == (in | out));
    SECTION("FIN") {
        CHECK(kernel.shutdown_write(pair.server).ok());
        CHECK(client() == (in | out | rdhup));
        CHECK(server() == out);
        CHECK(kernel.shutdown_write(pair.client).ok());
        CHECK(client() == (in | out | rdhup | hup));
        CHECK(server() == (in | out | rdhup | hup));
    }
    SECTION("RST") {
        pair.close(pair.server, true);
        CHECK(client() == (in | out | err | rdhup | hup));
        CHECK(pending_error(kernel, pair.client) == ECONNRESET);
        CHECK(client() == (in | out | rdhup | hup));
    }
    SECTION("refused") {
        const Address at = local(kernel, pair.listener);
        pair.close(pair.listener);
        const int refused = begin_connect(kernel, at);
        CHECK(state_of(kernel, refused) == (in | out | err | rdhup | hup));
        CHECK(pending_error(kernel, refused) == ECONNREFUSED);
        CHECK(kernel.connect(refused, at).error() == ECONNABORTED);
        CHECK(kernel.connect(refused, at).error() == EINPROGRESS); // another attempt
        CHECK(kernel.connect(refused, at).error() == ECONNREFUSED);
        CHECK(kernel.recv(refused, nullptr, 0).error() == ENOTCONN);
        kernel.close(refused);
    }
    SECTION("errors and hang-ups are reported once without any interest") {
        REQUIRE(kernel.add(pair.client, 9, Interest::none).ok());
        CHECK(look(kernel).empty());
        pair.close(pair.server, true);
        CHECK(bits(kernel, 9) == (err | hup));
        CHECK(look(kernel).empty());
    }
}

TEST_CASE("An edge-triggered registration reports each change of state once") {
    SimKernel kernel;
    kernel.set_buffer_sizes(1000, 1000);
    Pair pair(kernel);
    REQUIRE(kernel.add(pair.client, 1, Interest::stream).ok());
    CHECK(bits(kernel, 1) == out); // what is true when it is registered
    CHECK(look(kernel).empty());
    send_text(kernel, pair.server, "a");
    CHECK(bits(kernel, 1) == (in | out));
    CHECK(look(kernel).empty()); // unread bytes are no news
    send_text(kernel, pair.server, "b");
    CHECK(bits(kernel, 1) == (in | out));
    CHECK(recv_text(kernel, pair.client) == "ab");
    CHECK(look(kernel).empty());

    const std::string much(5000, 'x');
    CHECK(send_text(kernel, pair.client, much) == 2000);
    CHECK(send_text(kernel, pair.client, much) == -EAGAIN);
    CHECK(look(kernel).empty());
    CHECK(recv_text(kernel, pair.server, 100).size() == 100);
    CHECK(look(kernel).empty()); // a tenth of the buffer is free: less than a third
    CHECK(recv_text(kernel, pair.server, 500).size() == 500);
    CHECK(bits(kernel, 1) == out);
    CHECK(recv_text(kernel, pair.server, 500).size() == 500);
    CHECK(look(kernel).empty()); // nobody was refused since

    CHECK(kernel.shutdown_write(pair.server).ok());
    CHECK(bits(kernel, 1) == (in | out | rdhup));
    CHECK(look(kernel).empty());
    pair.close(pair.server, true);
    CHECK(bits(kernel, 1) == (in | out | rdhup | hup | err));
    CHECK(look(kernel).empty());
}

TEST_CASE("A level-triggered registration reports a state for as long as it lasts") {
    SimKernel kernel;
    Pair pair(kernel);
    REQUIRE(kernel.add(pair.client, 1, Interest::read).ok());
    CHECK(look(kernel).empty());
    send_text(kernel, pair.server, "ab");
    for (int i = 0; i < 3; ++i)
        CHECK(bits(kernel, 1) == in);
    CHECK(recv_text(kernel, pair.client, 1) == "a");
    CHECK(bits(kernel, 1) == in);
    CHECK(recv_text(kernel, pair.client, 1) == "b");
    CHECK(look(kernel).empty());
    CHECK(recv_text(kernel, pair.client) == error_text(EAGAIN));
    CHECK(kernel.modify(pair.client, 2, Interest::both).ok());
    CHECK(bits(kernel, 2) == out);
}

TEST_CASE("Bytes arrive complete and in order through any buffers and segments [F16]") {
    struct Case {
        std::size_t send, receive, segment;
        Duration latency;
    };
    for (const Case& each : {Case{65536, 65536, 0, 0ns}, Case{1, 1, 0, 0ns}, Case{7, 3, 0, 0ns},
                             Case{3, 70, 2, 0ns}, Case{1000, 10, 1, 5ms}, Case{64, 64, 100, 1s}}) {
        SimKernel kernel;
        kernel.set_buffer_sizes(each.send, each.receive);
        Pair pair(kernel);
        kernel.set_latency(each.latency / 2, each.latency);
        kernel.set_segment_size(each.segment);
        REQUIRE(kernel.add(pair.client, 1, Interest::stream).ok());
        REQUIRE(kernel.add(pair.server, 2, Interest::stream).ok());
        std::string sent, received;
        for (int i = 0; i < 3000; ++i)
            sent.push_back(static_cast<char>(i * 7));
        std::size_t done = 0;
        bool ended = false, shut = false;
        for (int turn = 0; turn < 100'000 && !ended; ++turn) {
            wait_for_event(kernel);
            for (int n;
                 done < sent.size() &&
                 (n = send_text(kernel, pair.client, std::string_view(sent).substr(done))) > 0;)
                done += static_cast<std::size_t>(n);
            if (done == sent.size() && !std::exchange(shut, true))
                CHECK(kernel.shutdown_write(pair.client).ok());
            for (std::string text; (text = recv_text(kernel, pair.server)) != error_text(EAGAIN);) {
                ended = text == "EOF";
                if (ended) break;
                received += text;
            }
        }
        INFO(each.send << ' ' << each.receive << ' ' << each.segment);
        CHECK(ended);
        CHECK(received == sent);
    }
}

TEST_CASE("A send takes what there is room for, split anywhere, empty pieces included [F16]") {
    SimKernel kernel;
    kernel.set_buffer_sizes(5, 4);
    Pair pair(kernel);
    char text[] = "abcdefghijkl";
    const iovec pieces[] = {{text, 0},     {text, 2},     {text, 0},
                            {text + 2, 5}, {text + 7, 5}, {text, 0}};
    CHECK(kernel.sendv(pair.client, pieces, 6).count() == 9);
    CHECK(kernel.sendv(pair.client, pieces, 1).count() == 0);
    CHECK(kernel.sendv(pair.client, pieces + 4, 2).error() == EAGAIN);
    CHECK(recv_text(kernel, pair.server) == "abcd");
    CHECK(recv_text(kernel, pair.server) == "efgh");
    CHECK(recv_text(kernel, pair.server) == "i");
    CHECK(recv_text(kernel, pair.server) == error_text(EAGAIN));
    CHECK(kernel.send(pair.client, text, 0).count() == 0);
    CHECK(set_option(kernel, pair.client, SocketOption::send_buffer, 1) == 0);
    CHECK(get_option(kernel, pair.client, SocketOption::send_buffer) == 1);
    CHECK(set_option(kernel, pair.server, SocketOption::receive_buffer, 0) == 0); // at least 1
    CHECK(send_text(kernel, pair.client, "xyz") == 2);
}

TEST_CASE("Bytes that came before a reset are read first, then its error, once [F11] [s83]") {
    SimKernel kernel;
    Pair pair(kernel);
    send_text(kernel, pair.server, "last words");
    pair.close(pair.server, true);
    CHECK(recv_text(kernel, pair.client, 4) == "last");
    CHECK(recv_text(kernel, pair.client) == " words");
    CHECK(recv_text(kernel, pair.client) == error_text(ECONNRESET));
    CHECK(recv_text(kernel, pair.client) == "EOF");
    CHECK(send_text(kernel, pair.client, "x") == -EPIPE);
    CHECK(kernel.shutdown_write(pair.client).error() == ENOTCONN);
    Address address;
    CHECK(kernel.peer_address(pair.client, address).error() == ENOTCONN);
}

TEST_CASE("A reset is reported to the first send instead, and EPIPE for ever after [F14]") {
    SimKernel kernel;
    Pair pair(kernel);
    pair.close(pair.server, true);
    CHECK(send_text(kernel, pair.client, "x") == -ECONNRESET);
    CHECK(send_text(kernel, pair.client, "x") == -EPIPE);
    CHECK(send_text(kernel, pair.client, "x") == -EPIPE);
}

TEST_CASE("The first send after the peer closed succeeds, the next ones give EPIPE [F14]") {
    SimKernel kernel;
    Pair pair(kernel);
    pair.close(pair.server);
    CHECK(state_of(kernel, pair.client) == (in | out | rdhup));
    CHECK(recv_text(kernel, pair.client) == "EOF");
    CHECK(send_text(kernel, pair.client, "x") == 1);
    CHECK(state_of(kernel, pair.client) == (in | out | rdhup | hup | err));
    CHECK(send_text(kernel, pair.client, "x") == -EPIPE);
    CHECK(send_text(kernel, pair.client, "x") == -EPIPE);
    CHECK(recv_text(kernel, pair.client) == "EOF");
}

TEST_CASE("Each direction ends on its own, and the address of the peer goes with the last [F12]") {
    SimKernel kernel;
    Pair pair(kernel);
    CHECK(kernel.shutdown_write(pair.client).ok());
    CHECK(kernel.shutdown_write(pair.client).ok());
    CHECK(send_text(kernel, pair.client, "x") == -EPIPE);
    CHECK(recv_text(kernel, pair.server) == "EOF");
    CHECK(send_text(kernel, pair.server, "still here") == 10);
    CHECK(peer(kernel, pair.client).port() != 0);
    pair.close(pair.server);
    CHECK(recv_text(kernel, pair.client) == "still here");
    CHECK(recv_text(kernel, pair.client) == "EOF");
    CHECK(recv_text(kernel, pair.client) == "EOF");
    Address address;
    CHECK(kernel.peer_address(pair.client, address).error() == ENOTCONN);
}

TEST_CASE("Closing with unread input resets the peer, whose own bytes stay readable [F13]") {
    SimKernel kernel;
    Pair pair(kernel);
    send_text(kernel, pair.client, "request");
    send_text(kernel, pair.server, "reply");
    pair.close(pair.server);
    CHECK(recv_text(kernel, pair.client) == "reply");
    CHECK(recv_text(kernel, pair.client) == error_text(ECONNRESET));
}

TEST_CASE("FIN comes after what fills the buffers, a reset overtakes it") {
    SimKernel kernel;
    kernel.set_buffer_sizes(10, 4);
    Pair pair(kernel);
    CHECK(send_text(kernel, pair.server, "0123456789") == 10);
    SECTION("close") {
        pair.close(pair.server);
        CHECK(recv_text(kernel, pair.client) == "0123");
        CHECK(state_of(kernel, pair.client) == (in | out));
        CHECK(recv_text(kernel, pair.client) == "4567");
        CHECK(recv_text(kernel, pair.client) == "89");
        CHECK(recv_text(kernel, pair.client) == "EOF");
    }
    SECTION("reset") {
        pair.close(pair.server, true);
        CHECK(recv_text(kernel, pair.client) == "0123");
        CHECK(recv_text(kernel, pair.client) == error_text(ECONNRESET));
    }
}

TEST_CASE("A connection can be broken from outside, both ends hear of it") {
    SimKernel kernel;
    Pair pair(kernel);
    CHECK(kernel.reset_connection(pair.listener).error() == ENOTCONN);
    CHECK(kernel.reset_connection(pair.client).ok());
    CHECK(pending_error(kernel, pair.client) == ECONNRESET);
    CHECK(pending_error(kernel, pair.server) == ECONNRESET);
}

TEST_CASE("A connection that was reset in the queue is still accepted [F3]") {
    SimKernel kernel;
    const int listener = listen_at(kernel);
    const int client = begin_connect(kernel, local(kernel, listener));
    const Address at = local(kernel, client);
    kernel.close(client, true);
    Address from;
    const Sys server = kernel.accept(listener, from);
    REQUIRE(server.ok());
    CHECK(from == at);
    CHECK(state_of(kernel, server.fd()) == (in | out | err | rdhup | hup));
    CHECK(kernel.peer_address(server.fd(), from).error() == ENOTCONN);
    CHECK(recv_text(kernel, server.fd()) == error_text(ECONNRESET));
}

TEST_CASE("Closing a listener resets what it had not accepted") {
    SimKernel kernel;
    const int listener = listen_at(kernel);
    const int client = begin_connect(kernel, local(kernel, listener));
    kernel.close(listener);
    CHECK(pending_error(kernel, client) == ECONNRESET);
    kernel.close(client);
    CHECK(kernel.open_descriptors() == 0);
}

TEST_CASE("A full accept queue leaves connecting in progress until a later SYN finds room [F23]") {
    SimKernel kernel;
    const int listener = listen_at(kernel, loopback, 1);
    const Address at = local(kernel, listener);
    std::vector<int> clients;
    for (int i = 0; i < 3; ++i)
        clients.push_back(begin_connect(kernel, at));
    CHECK(state_of(kernel, clients[1]) == out);
    CHECK(state_of(kernel, clients[2]) == 0);
    CHECK(send_text(kernel, clients[2], "x") == -EAGAIN);
    CHECK(recv_text(kernel, clients[2]) == error_text(EAGAIN));
    CHECK(kernel.connect(clients[2], at).error() == EALREADY);
    REQUIRE(kernel.add(clients[2], 1, Interest::stream).ok());
    const TimePoint start = kernel.now();
    SECTION("room") {
        accept_from(kernel, listener);
        CHECK(look(kernel).empty());
        CHECK(wait_for_event(kernel) == 1);
        CHECK(kernel.now() == start + 1s); // the SYN is sent again
        CHECK(pending_error(kernel, clients[2]) == 0);
    }
    SECTION("no room for 127 s") {
        CHECK(wait_for_event(kernel) == 1);
        CHECK(kernel.now() == start + 127s);
        CHECK(pending_error(kernel, clients[2]) == ETIMEDOUT);
    }
    SECTION("given up") {
        kernel.close(clients[2]);
        std::vector<Event> events(1);
        CHECK(kernel.wait(events, TimePoint::max()).error() == EDEADLK);
        CHECK(kernel.now() == start); // its timer does not move the clock
    }
}

TEST_CASE("Ten thousand connections live side by side and leave nothing behind") {
    SimKernel kernel;
    const int listener = listen_at(kernel);
    const Address at = local(kernel, listener);
    std::vector<int> clients, servers;
    for (int i = 0; i < 10'000; ++i) {
        clients.push_back(begin_connect(kernel, at));
        servers.push_back(accept_from(kernel, listener));
        REQUIRE(kernel.add(servers.back(), static_cast<Token>(i), Interest::stream).ok());
    }
    std::size_t heard = 0;
    std::vector<Event> events(512);
    while (kernel.wait(events, TimePoint::min()).count() > 0) {
    }
    for (int i = 0; i < 10'000; i += 100)
        CHECK(send_text(kernel, clients[static_cast<std::size_t>(i)], "x") == 1);
    REQUIRE(kernel.wait(events, TimePoint::min()).count() == 100);
    for (std::size_t i = 0; i < 100; ++i)
        heard += events[i].token == i * 100;
    CHECK(heard == 100);
    for (std::size_t i = 0; i < clients.size(); ++i) {
        kernel.close(clients[i]);
        kernel.close(servers[i]);
    }
    kernel.close(listener);
    CHECK(kernel.open_descriptors() == 0);
    CHECK(kernel.in_flight() == 0);
}
