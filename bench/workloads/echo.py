"""Streams: echo in its settings, against the number of connections, pipelined, bulk, connecting."""

from suite import workload

HAND = ("hand-edge", "hand-level")
FEW = ("libuv", "asio-callback", "asio-await", "state-threads", "go", "tokio")


@workload("echo", "ping-pong of 64 and 1024 bytes, on 1 to 5000 connections")
def echo(suite):
    settings = suite.pick([(size, count) for size in (64, 1024) for count in (1, 64, 512, 5000)],
                          [(64, 64)])
    for size, count in settings:
        suite.compare_servers("echo", f"{size} B, {count} connections",
                              suite.servers("echo", HAND), size=size, connections=count)


@workload("connections", "what a request costs with 1 to 15000 connections")
def connections(suite):
    entrants = suite.servers("echo", ("hand-edge",), ("weft", "weft-coro", *FEW))
    for count in suite.pick((1, 8, 64, 512, 4096, 15000), (1, 64, 512)):
        suite.compare_servers("connections", f"{count} connections", entrants, connections=count)


@workload("streaming", "512-byte messages, 64 in flight on each of 4 connections")
def streaming(suite):
    suite.compare_servers("streaming", "512 B, 4 connections, 64 in flight",
                          suite.servers("echo", HAND, large_buffer=True),
                          size=512, connections=4, depth=64)


@workload("lines", "lines of 64 bytes, 16 in flight, each answered by its own write")
def lines(suite):
    suite.compare_servers("lines", "64 B, 64 connections, 16 in flight",
                          suite.servers("lines", ("hand-lines",)), depth=16)


@workload("bulk", "messages of 1 MiB on 4 connections")
def bulk(suite):
    suite.compare_servers("bulk", "1 MiB, 4 connections",
                          suite.servers("echo", HAND, large_buffer=True),
                          size=1 << 20, connections=4)


@workload("connect", "connect, one request, close")
def connect(suite):
    suite.compare_servers("connect", "64 B, 64 at a time", suite.servers("echo", HAND),
                          reconnect=True)
