#!/usr/bin/env python3
"""examples_test.py PROGRAM...: starts each server among the examples on a free port, talks to it as a client would, and ends it
with SIGTERM; runs the others and looks at what they print."""

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


def chat(address):
    with socket.create_connection(address, timeout=10) as ann:
        ann.sendall(b"Ann\n")
        assert exactly(ann, 24) == b"Your name?\nWelcome, Ann\n"
        with socket.create_connection(address, timeout=10) as bob:
            bob.sendall(b"Bob\nhello\n")
            assert exactly(ann, 24) == b"Bob comes in\nBob: hello\n"
            ann.sendall(b"hi Bob\n")
            assert exactly(bob, 36) == b"Your name?\nWelcome, Bob\nAnn: hi Bob\n"
        assert exactly(ann, 13) == b"Bob has left\n"


def wrapped_protocol(address):
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"password sesame\n1\n2\n")
        assert exactly(client, 35) == b"welcome\r\nthe sum is 1\nthe sum is 3\n"
        client.sendall(b"4\n")
        assert exactly(client, 13) == b"the sum is 7\n"
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"let me in\n")
        assert client.recv(1) == b"", "it should have closed"


def output_of(program, *arguments):
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


def port_scanner(program):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = output_of(program, "127.0.0.1", str(max(port - 200, 1)), str(min(port + 200, 65535)))
        assert str(port) in found.split(), found


def producer_consumer(program):
    assert output_of(program) == "the sum is 500500\n"


def retry(program):
    text = output_of(program)
    assert "attempt 1" in text and "attempt 2" in text and text.endswith("the answer is 42\n"), text


TALKS = {"echo": tcp_echo, "lines": lines, "udp_echo": udp_echo, "embed": tcp_echo, "echo_coro": tcp_echo, "chat": chat,
         "wrapped_protocol": wrapped_protocol}
RUNS = {"port_scanner": port_scanner, "producer_consumer": producer_consumer, "retry": retry}


def try_server(path, talk):
    server, address = start(path)
    try:
        talk(address)
        stop(server)
    except BaseException:
        server.kill()
        server.wait()
        raise


failed = 0
for path in sys.argv[1:]:
    name = os.path.basename(path).removeprefix("example-")
    try:
        if name in RUNS:
            RUNS[name](path)
        else:
            try_server(path, TALKS[name])
        print(f"{name}: passed")
    except Exception as error:  # the next example is tried all the same
        failed += 1
        print(f"{name}: failed: {type(error).__name__}: {error}")
sys.exit(1 if failed or len(sys.argv) < 2 else 0)
