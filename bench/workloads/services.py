"""What redis, nginx and haproxy do all day, against weft's protocols: a PING and a small page."""

import shutil
import socket

import harness
from suite import workload

# The client's addresses are others than 127.0.0.1, which redis' protected mode turns away.
REDIS = ("redis-server --port {port} --bind 127.0.0.1 --protected-mode no --save '' "
         "--appendonly no")
SCRIPTS = f"{harness.ROOT}/bench/peers"
PAGE = "GET / HTTP/1.1\r\nHost: localhost\r\n"


def length_of_answer(who, command, options, question):
    """Bytes of the answer to one question, which is the same every time."""
    with harness.Server(who, command, options) as server, \
            socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(question.encode() + b"\r\n")
        answer = connection.recv(65536)
        connection.settimeout(0.2)  # the rest of it, if it came in pieces
        try:
            while more := connection.recv(65536):
                answer += more
        except TimeoutError:
            pass
        return len(answer)


def ask(suite, name, question, candidates):
    """Compares services whose answers differ in length, each with a client that knows it."""
    entrants = []
    for who, program, command in candidates:
        if program and not shutil.which(program):
            suite.skipped[f"{who} ({name})"] = f"{program} is not installed"
            continue
        entrants.append((who, command))
    lengths = {who: length_of_answer(who, command, suite.setting(), question)
               for who, command in entrants}
    for depth in (1, 16):
        asking = {who: ("--ask", question, "--answer", str(length))
                  for who, length in lengths.items()}
        suite.compare_servers(name, f"64 connections, {depth} in flight", entrants, depth=depth,
                              asking_of=asking)


@workload("redis", "PING, as redis answers it")
def redis(suite):
    ask(suite, "redis", "PING", [
        ("weft", None, "{build}/bench/bench-services --port {port} --speak ping"),
        ("redis", "redis-server", REDIS)])


@workload("http", "a page of five bytes, as nginx and haproxy answer it themselves")
def http(suite):
    ask(suite, "http", PAGE, [
        ("weft", None, "{build}/bench/bench-services --port {port} --speak http"),
        ("nginx", "nginx", f"{SCRIPTS}/nginx.sh {{port}}"),
        ("haproxy", "haproxy", f"{SCRIPTS}/haproxy.sh {{port}}")])
