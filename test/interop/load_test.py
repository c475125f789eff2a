#!/usr/bin/env python3
"""What `weft load` finds out about services that are late, wrong, or not there."""

import json
import signal
import socket
import subprocess
import threading

from harness import (PATIENCE, WEFT, Echo, case, check, equal, main, receive, refused, run)

LOCAL = "127.0.0.1:0"
QUICK = ("--duration", "0.3", "--warmup", "0")


class Service:
    """A listener whose connections are each given to `serve(connection)` on a thread."""

    def __init__(self, serve):
        self.serve = serve
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE)
            self.threads.append(threading.Thread(target=self.one, args=(connection,), daemon=True))
            self.threads[-1].start()

    def one(self, connection):
        with connection:
            try:
                self.serve(connection)
            except ConnectionError:
                pass  # the load has gone

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(PATIENCE)


def echo_all(connection):
    while data := connection.recv(65536):
        connection.sendall(data)


def load(*options, status=0):
    return json.loads(run(WEFT, "load", "--json", *options, status=status))


@case
def figures():
    """The figures of a report fit each other"""
    with Echo("--tcp", LOCAL) as echo:
        found = load("--tcp", f"127.0.0.1:{echo.tcp[1]}", "-c", "5", "--size", "100", *QUICK)
    equal(found["errors"], {}, "errors")
    equal((found["connections"], found["size"], found["depth"]), (5, 100, 1), "what was asked")
    check(0 < found["answered"] <= found["sent"] + 5, found)
    check(abs(found["per_second"] * found["seconds"] - found["answered"]) < 1, found)
    latency = [found["latency_us"][name] for name in ("p50", "p90", "p99", "p99.9", "max")]
    check(0 < latency[0] and latency == sorted(latency), found)
    # Five connections with one message in flight each can not be faster than their latency allows.
    check(found["answered"] <= 5 * found["seconds"] / (latency[0] / 2 * 1e-6), found)


@case
def table():
    """The report for people names throughput and percentiles, and draws when asked to"""
    with Echo("--tcp", LOCAL) as echo:
        address = f"127.0.0.1:{echo.tcp[1]}"
        text = run(WEFT, "load", "--tcp", address, "--histogram", *QUICK, env={"LC_ALL": "C"}).decode("ascii")
        for word in ("throughput", "p50", "p99.9", "max", " % #"):
            check(word in text, text)
        blocks = run(WEFT, "load", "--tcp", address, "--histogram", *QUICK, env={"LC_ALL": "C.UTF-8"}).decode()
        check("█" in blocks, blocks)


@case
def progress():
    """The bar is drawn when asked for, and not into a pipe that did not"""
    with Echo("--tcp", LOCAL) as echo:
        for options, shown in (((), False), (("--progress",), True), (("--no-progress",), False)):
            done = subprocess.run([WEFT, "load", "--tcp", f"127.0.0.1:{echo.tcp[1]}", *QUICK, *options],
                                  capture_output=True, timeout=PATIENCE, check=True)
            equal(bool(done.stderr), shown, f"a bar with {options}")


@case
def open_loop():
    """The open loop sends by its plan, whatever the answers do"""
    with Echo("--tcp", LOCAL) as echo:
        found = load("--tcp", f"127.0.0.1:{echo.tcp[1]}", "--rate", "1000", "--duration", "0.5", "--warmup", "0.1")
    equal(found["errors"], {}, "errors")
    check(499 <= found["sent"] <= 501, found)


@case
def coordinated_omission():
    """A service that stalls is charged for every message that was due meanwhile"""
    stalled = 100

    def serve(connection):
        # Reads the messages of 100 ms before it answers the first: by the plan that one is then 99 ms old, and of the
        # 200 in all a tenth is older than 78. A load that is late itself only makes them older.
        connection.sendall(receive(connection, 64 * stalled))
        echo_all(connection)

    with Service(serve) as service:
        found = load("--tcp", service.address, "-c", "1", "--rate", "1000", "--duration", "0.2", "--warmup", "0")
    equal(found["errors"], {}, "errors")
    check(found["latency_us"]["max"] >= 98_000, found)
    check(found["latency_us"]["p90"] >= 78_000, found)


@case
def wrong_bytes():
    """An answer that differs in one byte is an error"""

    def serve(connection):
        while data := connection.recv(64):
            connection.sendall(data[:-1] + bytes([data[-1] ^ 1]))

    with Service(serve) as service:
        found = load("--tcp", service.address, "-c", "3", *QUICK, status=1)
    equal(found["errors"].get("answer differs from what was sent"), 3, "errors")


@case
def swapped_answers():
    """An answer that belongs to another message is an error"""

    def serve(connection):
        one, other = receive(connection, 64), receive(connection, 64)
        connection.sendall(other + one)
        echo_all(connection)

    with Service(serve) as service:
        found = load("--tcp", service.address, "-c", "1", "--depth", "2", *QUICK, status=1)
    equal(found["errors"].get("answer differs from what was sent"), 1, "errors")


@case
def too_many_bytes():
    """Bytes that nobody asked for are an error"""
    with Service(lambda connection: connection.sendall(receive(connection, 64) + b"and more")) as service:
        found = load("--tcp", service.address, "-c", "1", "--rate", "1", "--duration", "0.5", "--warmup", "0", status=1)
    equal(found["errors"].get("bytes that nobody asked for"), 1, "errors")


@case
def closing_service():
    """A service that hangs up is an error, with what it left unanswered"""
    with Service(lambda connection: receive(connection, 64)) as service:
        found = load("--tcp", service.address, "-c", "2", *QUICK, status=1)
    equal(found["errors"].get("connection closed by the service"), 2, "errors")
    equal(found["errors"].get("message lost with its connection"), 2, "errors")


@case
def silent_service():
    """A service that never answers is an error after the timeout, and does not hold the load up"""
    with Service(lambda connection: connection.recv(1 << 20) and connection.recv(1)) as service:
        found = load("--tcp", service.address, "-c", "2", "--timeout", "0.2", *QUICK, status=1)
    equal(found["errors"], {"no answer by the end": 2}, "errors")


@case
def nobody_there():
    """Nobody listening is an error that names the address and the reason"""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    for kind, target in (("--tcp", address), ("--unix", "/nonexistent/echo")):
        error = refused("load", kind, target, *QUICK, status=1)
        check(target in error, error)
    check("Connection refused" in refused("load", "--tcp", address, status=1), "no reason")
    check("nonsense" in refused("load", "--tcp", "nonsense", status=2), "no address")
    found = load("--udp", address, "-c", "1", "--timeout", "0.2", *QUICK, status=1)
    check("datagram failed: Connection refused" in found["errors"], found)


@case
def lost_datagrams():
    """Datagrams that are not answered are counted, and the load goes on"""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))

    def serve():
        count = 0
        while True:
            data, sender = server.recvfrom(65536)
            count += 1
            if data == b"end":
                return
            if count % 10:
                server.sendto(data, sender)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    found = load("--udp", f"127.0.0.1:{server.getsockname()[1]}", "-c", "1", "--rate", "200", "--timeout", "0.2",
                 "--duration", "0.5", "--warmup", "0", status=1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"end", server.getsockname())
    thread.join(PATIENCE)
    server.close()
    equal(sum(found["errors"].values()), found["sent"] // 10, f"errors of {found}")


@case
def interrupted():
    """SIGINT ends a load with what it has found so far"""
    with Echo("--tcp", LOCAL) as echo:
        process = subprocess.Popen([WEFT, "load", "--json", "--progress", "--warmup", "0", "--duration", "100", "--tcp",
                                    f"127.0.0.1:{echo.tcp[1]}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stderr.read(1)  # the bar: it is under way
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        equal(process.returncode, 128 + signal.SIGINT, "status")
        found = json.loads(output)
        check(found["answered"] > 0 and 0 < found["seconds"] < 100, found)


@case
def interrupted_early():
    """SIGINT ends a load that is still connecting, quietly"""
    with socket.socket() as listener:
        # Nobody accepts and the backlog is short, so most connections never stand.
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        process = subprocess.Popen([WEFT, "load", "--tcp", address, "-c", "50", "--timeout", "100"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        listener.settimeout(PATIENCE)
        with listener.accept()[0]:
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE)
        equal(process.returncode, 128 + signal.SIGINT, "status")
        equal((output, errors), (b"", b""), "what it says")


main()
