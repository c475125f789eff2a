"""Streams: echo by size and by number of connections, pipelined lines, connecting."""

from suite import workload

SIZES = {64: "64 B", 1024: "1 KiB", 4096: "4 KiB", 16384: "16 KiB", 65536: "64 KiB", 1 << 20: "1 MiB"}
LARGE = 16384  # messages from which on a peer is given a large buffer


@workload("echo", "ping-pong of 64 bytes to 1 MiB on 16 and on 64 connections")
def echo(suite):
    for size, words in suite.pick(SIZES, {64: "64 B", 65536: "64 KiB"}).items():
        for count in suite.pick((16, 64), (64,)):
            # Of the size alone depends how much is counted, hardly of the connections.
            suite.race("echo", f"{words}, {count} connections", {"size": size, "connections": count},
                       suite.peers("echo", size >= LARGE), counted=count == 64)


@workload("many", "ping-pong of 64 bytes on 512 connections")
def many(suite):
    suite.race("echo", "64 B, 512 connections", {"connections": 512}, suite.peers("echo"))


@workload("connections", "what a request costs with 1 to 15000 connections")
def connections(suite):
    for count in suite.pick((1, 8, 64, 512, 4096, 15000), (1, 64)):
        suite.race("connections", f"{count} connections", {"connections": count, "turns": 2 if count > 512 else 5},
                   suite.peers("echo"), counted=False)


@workload("streaming", "512-byte messages, 64 in flight on each of 4 connections")
def streaming(suite):
    suite.race("echo", "512 B, 64 in flight on 4 connections", {"size": 512, "connections": 4, "depth": 64},
               suite.peers("echo", True))


@workload("lines", "lines of 64 bytes, 16 in flight, each answered by its own write")
def lines(suite):
    suite.race("lines", "64 B, 64 connections, 16 in flight", {}, suite.peers("lines"))


@workload("connect", "connect, one request, close")
def connect(suite):
    suite.race("connect", "64 B, 64 at a time", {}, suite.peers("echo"))
