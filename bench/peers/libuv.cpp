// libuv: callbacks; each answer goes out with uv_try_write, and only what the socket does not take
// is copied and queued. Datagrams come with recvmmsg.

#include "peer.hpp"

#include <uv.h>
#include <vector>

namespace {

peer::Options options;
char buffer[20 * peer::buffer_size]; // libuv asks for 20 datagrams of 64 KiB for a recvmmsg

void check(int status, const char* call) {
    if (status < 0) peer::fail(call, uv_strerror(status));
}

struct Connection {
    uv_tcp_t tcp;
    peer::Lines lines;
};

struct Write {
    uv_write_t request;
    std::string data;
};

void on_read(uv_stream_t* stream, ssize_t size, const uv_buf_t* data);

void provide(uv_handle_t*, std::size_t, uv_buf_t* into) {
    *into = uv_buf_init(buffer, peer::buffer_size);
}

void on_close(uv_handle_t* handle) {
    delete static_cast<Connection*>(handle->data);
}

void on_written(uv_write_t* request, int status) {
    auto* write = static_cast<Write*>(request->data);
    if (status == 0 && !uv_is_closing(reinterpret_cast<uv_handle_t*>(request->handle)))
        uv_read_start(request->handle, provide, on_read);
    delete write;
}

void answer(uv_stream_t* stream, std::string_view data) {
    uv_buf_t piece = uv_buf_init(const_cast<char*>(data.data()), data.size());
    const int sent = uv_try_write(stream, &piece, 1);
    if (sent == static_cast<int>(data.size())) return;
    auto* write = new Write{{}, std::string(data.substr(sent > 0 ? sent : 0))};
    write->request.data = write;
    piece = uv_buf_init(write->data.data(), write->data.size());
    check(uv_write(&write->request, stream, &piece, 1, on_written), "uv_write");
    uv_read_stop(stream); // until the peer takes its answers
}

void on_read(uv_stream_t* stream, ssize_t size, const uv_buf_t* data) {
    if (size < 0) {
        uv_close(reinterpret_cast<uv_handle_t*>(stream), on_close);
    } else if (size > 0 && options.lines) {
        auto& lines = static_cast<Connection*>(stream->data)->lines;
        lines.feed({data->base, static_cast<std::size_t>(size)},
                   [stream](std::string_view line) { answer(stream, line); });
    } else if (size > 0) {
        peer::work(options, data->base);
        answer(stream, {data->base, static_cast<std::size_t>(size)});
    }
}

void on_connection(uv_stream_t* server, int status) {
    check(status, "accept");
    auto* connection = new Connection;
    uv_tcp_init(server->loop, &connection->tcp);
    connection->tcp.data = connection;
    auto* stream = reinterpret_cast<uv_stream_t*>(&connection->tcp);
    check(uv_accept(server, stream), "uv_accept");
    uv_tcp_nodelay(&connection->tcp, 1);
    uv_read_start(stream, provide, on_read);
}

struct Send {
    uv_udp_send_t request;
    std::string data;
};

void provide_for_datagrams(uv_handle_t*, std::size_t, uv_buf_t* into) {
    *into = uv_buf_init(buffer, sizeof buffer);
}

void on_datagram(uv_udp_t* udp, ssize_t size, const uv_buf_t* data, const sockaddr* from,
                 unsigned) {
    if (size < 0 || !from || (options.sink && *data->base != '?')) return;
    uv_buf_t piece = uv_buf_init(data->base, size);
    if (uv_udp_try_send(udp, &piece, 1, from) >= 0) return;
    auto* send = new Send{{}, std::string(data->base, size)};
    send->request.data = send;
    piece = uv_buf_init(send->data.data(), send->data.size());
    uv_udp_send(&send->request, udp, &piece, 1, from,
                [](uv_udp_send_t* request, int) { delete static_cast<Send*>(request->data); });
}

} // namespace

int main(int argc, char** argv) {
    options = peer::parse(argc, argv);
    uv_loop_t* loop = uv_default_loop();
    sockaddr_in address;
    uv_ip4_addr("127.0.0.1", options.port, &address);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    uv_tcp_t server;
    uv_udp_t udp;
    if (options.udp) {
        uv_udp_init_ex(loop, &udp, AF_INET | UV_UDP_RECVMMSG);
        check(uv_udp_bind(&udp, generic, 0), "uv_udp_bind");
        uv_udp_recv_start(&udp, provide_for_datagrams, on_datagram);
    } else {
        uv_tcp_init(loop, &server);
        check(uv_tcp_bind(&server, generic, 0), "uv_tcp_bind");
        auto* stream = reinterpret_cast<uv_stream_t*>(&server);
        check(uv_listen(stream, 4096, on_connection), "uv_listen");
    }
    uv_run(loop, UV_RUN_DEFAULT);
}
