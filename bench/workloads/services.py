"""What memcached, redis, nginx and haproxy do all day, against servers on weft that do the same."""

import pathlib
import shutil
import socket

import harness
import settings
from suite import workload

# The client's addresses are others than 127.0.0.1, which redis' protected mode turns away.
REDIS = ("redis-server --port {port} --bind 127.0.0.1 --protected-mode no --save '' --appendonly no")
MEMCACHED = "memcached -p {port} -l 127.0.0.1 -U 0 -t 1 -m 1024 -I 4m -c 4096 -u root"
SCRIPTS = f"{harness.ROOT}/bench/peers"
SERVICE = "{build}/bench/bench-services --port {port} --speak "
PAGE = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMALL_VALUE = 64


def examples(name):
    """(style, command) of the example server of that name, in both styles."""
    return [(style, f"{{build}}/bench/bench-example-{name}{suffix} 127.0.0.1:{{port}}")
            for style, suffix in (("callback", ""), ("coroutine", "-coro"))]


def ask(suite, name, title, base, others, question, answer, prepare=(), **changes):
    """Compares servers that give an answer of so many bytes to a question."""
    present = []
    for who, command in (base, *others):
        program = command.replace("{build}", str(suite.build)).split()[0]
        if shutil.which(program):
            present.append((who, command))
        else:
            suite.skipped[f"{who} ({name})"] = f"{pathlib.Path(program).name} is not there"
    if base not in present or len(present) < 2:
        return
    setting = settings.setting(suite.build, prepare=prepare, size=len(question),
                               load=("--ask-file", suite.file(question), "--answer", str(answer)), **changes)
    suite.compare(name, title, [base], present[1:], setting)


@workload("memcached", "GET and SET of values of 100 KB and 1 MB, against memcached")
def memcached(suite):
    for size, words in ((100_000, "100 KB"), (1_000_000, "1 MB")):
        store = b"set key 0 0 %d\r\n%s\r\n" % (size, bytes(97 + i % 26 for i in range(256)) * (size // 256)
                                             + b"x" * (size % 256))
        value = len(b"VALUE key 0 %d\r\n" % size) + size + len(b"\r\nEND\r\n")
        for verb, question, answer in (("GET", b"get key\r\n", value), ("SET", store, len(b"STORED\r\n"))):
            ask(suite, "memcached", f"{verb} of {words}, 16 connections", ("memcached", MEMCACHED),
                examples("memcached"), question, answer, (store,), connections=16)


def resp(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@workload("redis", "GET and SET of 64 bytes, 16 in flight, against redis-server")
def redis(suite):
    store = resp(b"SET", b"key", b"x" * SMALL_VALUE)
    for verb, question, answer in (("GET", resp(b"GET", b"key"), SMALL_VALUE + len(b"$64\r\n\r\n")),
                                   ("SET", store, len(b"+OK\r\n"))):
        ask(suite, "redis", f"{verb} of {SMALL_VALUE} B, 64 connections, 16 in flight", ("redis-server", REDIS),
            examples("redis"), question, answer, (store,), depth=16)


def length_of_answer(suite, who, command, question):
    """Bytes of the answer to one question, which is the same every time."""
    with harness.Server(who, command, settings.setting(suite.build)) as server, \
            socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(question)
        answer = connection.recv(65536)
        connection.settimeout(0.2)  # the rest of it, if it came in pieces
        try:
            while more := connection.recv(65536):
                answer += more
        except TimeoutError:
            pass
        return len(answer)


@workload("http", "a page of five bytes, as nginx and haproxy answer it themselves")
def http(suite):
    for who, program, command in (("nginx", "nginx", f"{SCRIPTS}/nginx.sh {{port}}"),
                                  ("haproxy", "haproxy", f"{SCRIPTS}/haproxy.sh {{port}}")):
        if not shutil.which(program):
            suite.skipped[who] = f"{program} is not installed"
            continue
        # The answers differ in length: weft is made to answer as much as the peer does.
        length = length_of_answer(suite, who, command, PAGE.encode())
        for depth in (1, 16):
            ask(suite, "http", f"{who}, 64 connections, {depth} in flight", (who, command),
                [("callback", SERVICE + f"http --length {length}")], PAGE.encode(), length, depth=depth)
