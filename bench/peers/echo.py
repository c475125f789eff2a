#!/usr/bin/python3
"""asyncio and uvloop: a protocol for each connection."""

import argparse
import asyncio
import socket

BUFFER_SIZE = 64 * 1024


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class LineEcho(Echo):
    partial = b""

    def data_received(self, data):
        *lines, self.partial = (self.partial + data).split(b"\n")
        for line in lines:
            self.transport.write(line + b"\n")


class DatagramEcho(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, address):
        if options.sink and not data.startswith(b"?"):
            return
        self.transport.sendto(data, address)


async def serve():
    loop = asyncio.get_running_loop()
    if options.udp:
        await loop.create_datagram_endpoint(DatagramEcho, ("127.0.0.1", options.port))
    else:
        protocol = LineEcho if options.lines else Echo
        await loop.create_server(protocol, "127.0.0.1", options.port, backlog=4096)
    await loop.create_future()


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8007)
    parser.add_argument("--buffer", type=int, help="taken for granted: asyncio has its own")
    parser.add_argument("--lines", action="store_true")
    parser.add_argument("--udp", action="store_true")
    parser.add_argument("--sink", action="store_true")
    parser.add_argument("--uvloop", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse()
    if options.uvloop:
        import uvloop
        uvloop.install()
    asyncio.run(serve())
