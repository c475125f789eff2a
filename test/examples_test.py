#!/usr/bin/env python3
"""examples_test.py PROGRAM...: starts each example on a free port, talks to it as a client would, and ends it with SIGTERM."""

import os
import signal
import socket
import subprocess
import sys


def start(program):
    server = subprocess.Popen([program, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    assert line.startswith("listening on "), line
    host, port = line.split()[-1].rsplit(":", 1)
    return server, (host, int(port))


def stop(server):
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=10) == 0, f"exit status {server.returncode}"
    server.stdout.close()


def exactly(client, size):
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        assert more, f"the end of the stream after {len(data)} of {size} bytes"
        data += more
    return data


def tcp_echo(address):
    data = os.urandom(300_000)
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
    with socket.create_connection(address, timeout=10) as client:
        for begin in range(0, len(data), 10_000):
            part = data[begin:begin + 10_000]
            client.sendall(part)
            assert exactly(client, len(part)) == part


def lines(address):
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"one\nthree\r\n\nqu")
        assert exactly(client, 9) == b"3\r\n5\r\n0\r\n"
        client.sendall(b"it\n")
        assert exactly(client, 10) == b"good-bye\r\n"
        assert client.recv(1) == b"", "it should have closed"


def udp_echo(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        for size in (0, 1, 1400, 60_000):
            data = os.urandom(size)
            client.sendto(data, address)
            assert client.recvfrom(65536) == (data, address)


TALKS = {"echo": tcp_echo, "lines": lines, "udp_echo": udp_echo, "embed": tcp_echo}

failed = 0
for path in sys.argv[1:]:
    name = os.path.basename(path).removeprefix("example-")
    server, address = start(path)
    try:
        TALKS[name](address)
        stop(server)
        print(f"{name}: passed")
    except Exception as error:  # the next example is tried all the same
        failed += 1
        server.kill()
        server.wait()
        print(f"{name}: failed: {type(error).__name__}: {error}")
sys.exit(1 if failed or len(sys.argv) < 2 else 0)
