#!/usr/bin/env python3
"""Clients that know nothing of weft talk to `weft echo`."""

import asyncio
import os
import random
import socket
import subprocess

from harness import (PATIENCE, WEFT, Echo, case, check, connect, echoes, equal, fill, folder, main, need, receive,
                     run)

LOCAL = "127.0.0.1:0"


def noise(size):
    return random.Random(size).randbytes(size)


@case
def nc_tcp():
    """nc talks to weft over TCP"""
    with Echo("--tcp", LOCAL) as echo:
        data = noise(100_000)
        equal(run(need("nc"), "-N", "127.0.0.1", str(echo.tcp[1]), input=data), data, "answer")


@case
def nc_unix():
    """nc talks to weft over a Unix path"""
    with folder() as place, Echo("--unix", f"{place}/echo") as echo:
        equal(run(need("nc"), "-N", "-U", echo.unix, input=b"to a path\n"), b"to a path\n", "answer")


@case
def nc_udp():
    """nc talks to weft over UDP"""
    with Echo("--udp", LOCAL) as echo:
        client = subprocess.Popen([need("nc"), "-u", "127.0.0.1", str(echo.udp[1])], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        client.stdin.write(b"one datagram\n")
        client.stdin.flush()
        equal(client.stdout.readline(), b"one datagram\n", "answer")
        client.kill()
        client.communicate()


@case
def socat_tcp():
    """socat gets megabytes back over TCP, and the end of the stream after them"""
    with Echo("--tcp", LOCAL) as echo:
        data = noise(4 << 20)
        back = run(need("socat"), f"-t{PATIENCE}", "-", f"TCP:127.0.0.1:{echo.tcp[1]}", input=data)
        equal(back, data, "answer")


@case
def socat_unix():
    """socat talks to weft over a Unix path and an abstract name"""
    name = f"@weft-interop-{os.getpid()}"
    with folder() as place, Echo("--unix", f"{place}/echo", "--unix", name):
        for target in (f"UNIX-CONNECT:{place}/echo", f"ABSTRACT-CONNECT:{name[1:]}"):
            equal(run(need("socat"), f"-t{PATIENCE}", "-", target, input=b"to " + target.encode()),
                  b"to " + target.encode(), "answer")


@case
def socat_udp():
    """socat talks to weft over UDP"""
    with Echo("--udp", LOCAL) as echo:
        client = subprocess.Popen([need("socat"), "-", f"UDP:127.0.0.1:{echo.udp[1]}"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        client.stdin.write(b"one datagram\n")
        client.stdin.flush()
        equal(client.stdout.readline(), b"one datagram\n", "answer")
        client.kill()
        client.communicate()


def with_asyncio(coroutine):
    asyncio.run(asyncio.wait_for(coroutine, PATIENCE))


async def talk(reader, writer, rounds=50):
    """Messages of growing size, then the end of the stream both ways."""
    for size in range(1, rounds):
        data = noise(size * size)
        writer.write(data)
        await writer.drain()
        equal(await reader.readexactly(len(data)), data, "answer")
    writer.write(b"last words")
    writer.write_eof()
    equal(await reader.read(), b"last words", "answer after the end was sent")
    writer.close()
    await writer.wait_closed()


@case
def asyncio_tcp():
    """asyncio's streams talk to weft over TCP, 40 at a time"""
    with Echo("--tcp", LOCAL) as echo:

        async def one():
            await talk(*await asyncio.open_connection(*echo.tcp))

        async def all_of_them():
            await asyncio.gather(*(one() for _ in range(40)))

        with_asyncio(all_of_them())


@case
def asyncio_threads():
    """asyncio's streams talk to weft on three threads"""
    with Echo("--tcp", LOCAL, "--threads", "3") as echo:

        async def one():
            await talk(*await asyncio.open_connection(*echo.tcp))

        async def all_of_them():
            await asyncio.gather(*(one() for _ in range(40)))

        with_asyncio(all_of_them())


@case
def asyncio_unix():
    """asyncio's streams talk to weft over a Unix path and an abstract name"""
    name = f"@weft-interop-{os.getpid()}"
    with folder() as place, Echo("--unix", f"{place}/echo", "--unix", name):

        async def both():
            for path in (f"{place}/echo", "\0" + name[1:]):
                await talk(*await asyncio.open_unix_connection(path))

        with_asyncio(both())


@case
def asyncio_udp():
    """asyncio's datagrams come back one for one, the largest included"""
    sizes = [1, 100, 1472, 9000, 65507]

    class Client(asyncio.DatagramProtocol):
        def __init__(self):
            self.received = asyncio.Queue()

        def datagram_received(self, data, addr):
            self.received.put_nowait((data, addr))

    with Echo("--udp", LOCAL) as echo:

        async def exchange():
            loop = asyncio.get_running_loop()
            transport, client = await loop.create_datagram_endpoint(Client, local_addr=("127.0.0.1", 0))
            for size in sizes:
                transport.sendto(noise(size), echo.udp)
                data, sender = await client.received.get()
                equal(data, noise(size), "answer")
                equal(sender, echo.udp, "sender of the answer")
            transport.close()

        with_asyncio(exchange())


@case
def empty_datagrams():
    """An empty datagram is answered with an empty one"""
    with Echo("--udp", LOCAL) as echo, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(echo.udp)
        for data in (b"", b"between", b""):
            client.send(data)
            equal(client.recv(100), data, "answer")


@case
def ipv6():
    """A client talks to weft over IPv6 and, on the same socket, over IPv4"""
    with Echo("--tcp", "*:0") as echo:
        port = echo.tcp[1]
        for host in ("127.0.0.1", "::1"):
            with connect((host, port)) as client:
                echoes(client)


@case
def lines():
    """Lines come back as they were sent, cut anywhere and many at a time"""
    with Echo("--tcp", LOCAL, "--lines") as echo, connect(echo.tcp) as client:
        for byte in b"one by one\r\n":
            client.sendall(bytes([byte]))
        equal(receive(client, 12), b"one by one\r\n", "answer")
        many = b"".join(b"line %d\n" % i for i in range(5000)) + b"\n\n"
        client.sendall(many)
        equal(receive(client, len(many)), many, "answers")


@case
def line_too_long():
    """A line above the limit ends its connection and no other"""
    with Echo("--tcp", LOCAL, "--lines") as echo, connect(echo.tcp) as bystander, connect(echo.tcp) as client:
        try:
            client.sendall(b"x" * 200_000)
            equal(client.recv(1), b"", "answer")
        except (ConnectionResetError, BrokenPipeError):
            pass  # what was not read of the line turns the end into a reset
        echoes(bystander, b"still here\n")


@case
def slow_reader():
    """A client that sends much and reads late costs no memory, and loses nothing"""
    with Echo("--tcp", LOCAL) as echo, connect(echo.tcp) as client:
        echoes(client)
        before = echo.memory()
        data = noise(1 << 20)
        sent = fill(client, data)
        grown = echo.memory() - before
        check(grown < 16 * 1024, f"the service grew by {grown} KiB")
        back = receive(client, sent)
        equal(back, (data * (sent // len(data) + 1))[:sent], "answer")


@case
def weft_both_ends():
    """weft load and weft echo agree, over every kind of socket"""
    with folder() as place, Echo("--tcp", LOCAL, "--udp", LOCAL, "--unix", f"{place}/echo") as echo:
        tcp, udp = f"127.0.0.1:{echo.tcp[1]}", f"127.0.0.1:{echo.udp[1]}"
        for target in (("--tcp", tcp), ("--tcp", tcp, "--lines", "--depth", "16"), ("--unix", echo.unix),
                       ("--udp", udp, "-c", "8"), ("--tcp", tcp, "--rate", "500", "--size", "3000")):
            run(WEFT, "load", *target, "--duration", "0.2", "--warmup", "0", "--timeout", "20")


main()
