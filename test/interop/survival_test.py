#!/usr/bin/env python3
"""What `weft echo` must survive: clients that die, descriptors that run out, addresses that are taken, signals."""

import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys

from harness import (PATIENCE, Echo, Skip, case, check, connect, echoes, equal, fill, folder, main, need, receive,
                     refused, run, WEFT)

LOCAL = "127.0.0.1:0"


def text_of(address):
    return f"{address[0]}:{address[1]}"


@case
def killed_client():
    """A client killed in the middle of its stream is nobody else's trouble"""
    with Echo("--tcp", LOCAL, "--stats") as echo, connect(echo.tcp) as bystander:
        for _ in range(5):
            script = ("import socket,sys; s=socket.create_connection(('127.0.0.1',int(sys.argv[1])))\n"
                      "s.sendall(b'x'*100000); print('sent',flush=True)\n"
                      "while True: s.sendall(b'x'*100000)")
            client = subprocess.Popen([sys.executable, "-c", script, str(echo.tcp[1])], stdout=subprocess.PIPE)
            client.stdout.readline()
            client.kill()
            client.communicate()
            echoes(bystander)


@case
def reset_clients():
    """Connections that are reset, at once or with an answer under way, leave the service as it was"""
    with Echo("--tcp", LOCAL, "--stats") as echo, connect(echo.tcp) as bystander:
        for i in range(50):
            with connect(echo.tcp) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if i % 2:
                    client.sendall(b"x" * 10_000 * i)
        echoes(bystander)
        with connect(echo.tcp) as client:
            echoes(client)


def served_at_last(echo):
    """A connection to a service that may not have noticed yet that others have gone."""
    for _ in range(10_000):
        client = connect(echo.tcp)
        try:
            client.sendall(b"ping")
            if receive(client, 4) == b"ping":
                return client
        except (ConnectionResetError, BrokenPipeError):
            pass
        client.close()
    raise AssertionError("the service does not recover")


@case
def no_descriptors():
    """Without descriptors further connections are closed, the others go on, and it recovers"""
    limit = 32
    with Echo("--tcp", LOCAL, "--stats", before=(need("prlimit"), f"--nofile={limit}:{limit}")) as echo:
        clients = [connect(echo.tcp) for _ in range(limit + 10)]
        served = []
        for client in clients:
            try:
                client.sendall(b"ping")
                if receive(client, 4) == b"ping":
                    served.append(client)
            except (ConnectionResetError, BrokenPipeError):
                pass
        check(limit // 2 < len(served) < limit, f"{len(served)} of {len(clients)} connections were served")
        for client in served:
            echoes(client, b"still here")
        for client in clients:
            client.close()
        again = [served_at_last(echo) for _ in range(limit // 2)]
        for client in again:
            echoes(client, b"still here")
            client.close()
    check(" 0 closed for want of descriptors" not in echo.output, echo.output)


@case
def connection_cap():
    """Above --max-connections further clients wait in the backlog"""
    with Echo("--tcp", LOCAL, "--max-connections", "2") as echo:
        first, second, third = (connect(echo.tcp) for _ in range(3))
        for client in (first, second):
            echoes(client)
        third.sendall(b"waited")
        first.close()
        equal(receive(third, 6), b"waited", "answer to the third")
        second.close()
        third.close()


@case
def port_in_use():
    """A TCP or UDP port in use is an error that names the address"""
    with Echo("--tcp", LOCAL, "--udp", LOCAL) as echo:
        for kind, address in (("--tcp", echo.tcp), ("--udp", echo.udp)):
            error = refused("echo", kind, text_of(address), status=1)
            check(text_of(address) in error and "Address already in use" in error, error)
        with connect(echo.tcp) as client:
            echoes(client)


@case
def reuse_port():
    """Two services share a port if both want to"""
    with Echo("--tcp", LOCAL, "--reuse-port") as one:
        refused("echo", "--tcp", text_of(one.tcp), status=1)
        with Echo("--tcp", text_of(one.tcp), "--reuse-port") as other:
            equal(other.tcp, one.tcp, "address")
            for _ in range(20):
                with connect(one.tcp) as client:
                    echoes(client)


@case
def bad_addresses():
    """What is no address is bad usage, and named"""
    for kind in ("--tcp", "--udp"):
        for address in ("nonsense", "127.0.0.1:99999", "1.2.3.4.5:80:90", "127.0.0.1:"):
            error = refused("echo", kind, address, status=2)
            check(address in error, error)
    error = refused("echo", "--tcp", "192.0.2.1:8007", status=1)
    check("192.0.2.1:8007" in error and "Cannot assign requested address" in error, error)


@case
def bad_usage():
    """Bad usage says what is wrong and ends with status 2; --help ends with 0"""
    for options, words in (((), "subcommand"), (("echo",), "--tcp"), (("echo", "--nope"), "--nope"),
                           (("echo", "--tcp", ":0", "--style", "coroutine"), "--style"),
                           (("echo", "--tcp", ":0", "--threads", "0"), "--threads"), (("load",), "--tcp"),
                           (("load", "--tcp", ":1", "--udp", ":1"), "--udp"),
                           (("load", "--tcp", ":1", "--rate", "10", "--depth", "2"), "--depth"),
                           (("load", "--tcp", ":1", "--duration", "0"), "--duration"),
                           (("load", "--udp", ":1", "--size", "4"), "--size")):
        check(words in refused(*options, status=2), f"weft {' '.join(options)} does not name {words}")
    for options in (("--help",), ("echo", "--help"), ("load", "--help")):
        check(b"Usage" in run(WEFT, *options), f"weft {' '.join(options)} tells no usage")


@case
def unix_paths():
    """A stale socket is replaced; a file, a live socket and a missing folder are not"""
    with folder() as place:
        path = place / "echo"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        with Echo("--unix", str(path)) as echo:
            error = refused("echo", "--unix", str(path), status=1)
            check(str(path) in error and "Address already in use" in error, error)
            with connect(echo.unix) as client:
                echoes(client)
        check(not path.exists(), "the socket's file is still there")
        path.write_text("a letter")
        error = refused("echo", "--unix", str(path), status=1)
        check(str(path) in error and "File exists" in error, error)
        equal(path.read_text(), "a letter", "the file")
        error = refused("echo", "--unix", f"{place}/no/echo", status=1)
        check(f"{place}/no/echo" in error and "No such file" in error, error)
        error = refused("echo", "--unix", "x" * 200, status=1)
        check("x" * 200 in error and "too long" in error, error)


@case
def replaced_path():
    """A service removes the file of its own socket only"""
    with folder() as place:
        path = place / "echo"
        with Echo("--unix", str(path)):
            path.unlink()
            path.write_text("somebody else's")
        equal(path.read_text(), "somebody else's", "the file")


@case
def permission():
    """A missing permission is an error that names the path"""
    with folder() as place:
        place.chmod(stat.S_IRUSR | stat.S_IXUSR)
        options = {}
        if os.getuid() == 0:
            # The binary must stay reachable for the user that we become.
            check_as = {"user": 65534, "group": 65534, "extra_groups": []}
            if subprocess.run([need("test"), "-x", WEFT], check=False, **check_as).returncode != 0:
                raise Skip("an unprivileged user can not reach the program")
            options = check_as
        error = refused("echo", "--unix", f"{place}/echo", status=1, **options)
        check(f"{place}/echo" in error and "Permission denied" in error, error)
        place.chmod(stat.S_IRWXU)


@case
def terminated():
    """SIGTERM and SIGINT close open connections, remove the socket's file and end with status 0"""
    for number in (signal.SIGTERM, signal.SIGINT):
        with folder() as place, Echo("--tcp", LOCAL, "--unix", f"{place}/echo", "--threads", "2") as echo:
            clients = [connect(echo.tcp), connect(echo.tcp), connect(echo.unix)]
            for client in clients:
                echoes(client)
            equal(echo.end(number), 0, "status")
            for client in clients:
                equal(client.recv(1), b"", "what came after the end")
                client.close()
            check(not os.path.exists(f"{place}/echo"), "the socket's file is still there")


@case
def terminated_twice():
    """A second SIGTERM ends a service that waits for a client to take its answers"""
    with Echo("--tcp", LOCAL, "--grace", "1000", ends=128 + signal.SIGTERM) as echo, connect(echo.tcp) as client:
        fill(client, b"x" * 65536)
        echo.process.terminate()
        # Once it has stopped listening the first signal has been seen.
        while True:
            try:
                connect(echo.tcp).close()
            except (ConnectionRefusedError, ConnectionResetError):
                break
        echo.process.terminate()
        equal(echo.wait(), 128 + signal.SIGTERM, "status")


@case
def terminated_with_a_deaf_client():
    """After --grace a client that does not take its answers is cut off"""
    with Echo("--tcp", LOCAL, "--grace", "0.1") as echo, connect(echo.tcp) as client:
        fill(client, b"x" * 65536)
        equal(echo.end(), 0, "status")


@case
def no_stray_output():
    """A service that is used well says nothing on standard error"""
    with Echo("--tcp", LOCAL, "--udp", LOCAL) as echo:
        with connect(echo.tcp) as client:
            echoes(client)
        equal(echo.end(), 0, "status")
        equal(echo.stderr(), "", "standard error")


@case
def counters():
    """--stats tells connections, messages and bytes at the end, of all threads together"""
    with Echo("--tcp", LOCAL, "--stats", "--threads", "2") as echo:
        for _ in range(8):
            with connect(echo.tcp) as client:
                echoes(client, b"12345")
    check("8 connections, 0 ended with an error, 0 closed" in echo.output, echo.output)
    check("8 messages, 40 bytes echoed" in echo.output, echo.output)


resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
main()
