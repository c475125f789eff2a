#!/usr/bin/env python3
"""examples_test.py PROGRAM...: starts each server among the examples on a free port, talks to it as a client would, and ends it
with SIGTERM; runs the others and looks at what they print."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time


def start(program):
    server = subprocess.Popen([program, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    line = server.stdout.readline()
    assert line.startswith("listening on "), line
    host, port = line.split()[-1].rsplit(":", 1)
    return server, (host, int(port))


def stop(server):
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=60) == 0, f"exit status {server.returncode}"
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
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"hello")
        assert exactly(client, 5) == b"hello"
    with socket.create_connection(address, timeout=60) as client:
        for begin in range(0, len(data), 10_000):
            part = data[begin:begin + 10_000]
            client.sendall(part)
            assert exactly(client, len(part)) == part


def lines(address):
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"one\nthree\r\n\nqu")
        assert exactly(client, 9) == b"3\r\n5\r\n0\r\n"
        client.sendall(b"it\n")
        assert exactly(client, 10) == b"good-bye\r\n"
        assert client.recv(1) == b"", "it should have closed"


def udp_echo(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        for size in (0, 1, 1400, 60_000):
            data = os.urandom(size)
            client.sendto(data, address)
            assert client.recvfrom(65536) == (data, address)


def chat(address):
    with socket.create_connection(address, timeout=60) as ann:
        ann.sendall(b"Ann\n")
        assert exactly(ann, 24) == b"Your name?\nWelcome, Ann\n"
        with socket.create_connection(address, timeout=60) as bob:
            bob.sendall(b"Bob\nhello\n")
            assert exactly(ann, 24) == b"Bob comes in\nBob: hello\n"
            ann.sendall(b"hi Bob\n")
            assert exactly(bob, 36) == b"Your name?\nWelcome, Bob\nAnn: hi Bob\n"
        assert exactly(ann, 13) == b"Bob has left\n"


def wrapped_protocol(address):
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"password sesame\n1\n2\n")
        assert exactly(client, 35) == b"welcome\r\nthe sum is 1\nthe sum is 3\n"
        client.sendall(b"4\n")
        assert exactly(client, 13) == b"the sum is 7\n"
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"let me in\n")
        assert client.recv(1) == b"", "it should have closed"


def own_framer(address):
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"+\0\0\2ab" + b"e\0\0\0" + b"x\1\0\0" + bytes(30_000))
        client.sendall(bytes(35_536))
        assert exactly(client, 7 + 4 + 4) == b"=\0\0\x03" b"195e\0\0\0x\1\0\0"
        assert exactly(client, 65_536) == bytes(65_536)
        client.sendall(b"x\xff\0\0")
        try:
            assert client.recv(1) == b"", "a record above the limit should have ended it"
        except ConnectionResetError:
            pass


def loop_per_thread(address):
    clients = [socket.create_connection(address, timeout=10) for _ in range(20)]
    for client in clients:
        client.sendall(b"hello")
    for client in clients:
        assert exactly(client, 5) == b"hello"
        client.close()


def asks(client, question, answer, pieces=None):
    for begin in range(0, len(question), pieces or len(question)):
        client.sendall(question[begin:begin + (pieces or len(question))])
    found = exactly(client, len(answer))
    assert found == answer, f"{found[:200]} to {question[:200]}, wanted {answer[:200]}"


def until(client, question, answer):
    """Asks until the answer, which is as long as the others, is this one."""
    while True:
        client.sendall(question)
        if exactly(client, len(answer)) == answer:
            return


def redis(address):
    def command(*words):
        words = [word if isinstance(word, bytes) else word.encode() for word in words]
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)

    with socket.create_connection(address, timeout=10) as client:
        asks(client, b"PING\r\n\r\nset a 1\nget a\r\n", b"+PONG\r\n+OK\r\n$1\r\n1\r\n", 1)
        asks(client, command("SET", "k", b"a\r\n\0b") + command("GET", "k") + command("GET", "none"),
             b"+OK\r\n$5\r\na\r\n\0b\r\n$-1\r\n", 1)
        asks(client, command("INCR", "n") + command("incr", "n") + command("DECR", "n") + command("INCR", "k"),
             b":1\r\n:2\r\n:1\r\n-ERR value is not an integer or out of range\r\n")
        asks(client, command("MSET", "x", "1", "y", "2") + command("MGET", "x", "z", "y"),
             b"+OK\r\n*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n")
        asks(client, command("EXISTS", "x", "y", "z") + command("DEL", "x", "z") + command("EXISTS", "x"),
             b":2\r\n:1\r\n:0\r\n")
        asks(client, command("SET", "y", "3", "NX") + command("SET", "y", "3", "XX") + command("GET", "y"),
             b"$-1\r\n+OK\r\n$1\r\n3\r\n")
        asks(client, command("SET", "t", "1", "EX", "100") + command("TTL", "t") + command("INCR", "t")
             + command("TTL", "t") + command("TTL", "y") + command("TTL", "none") + command("PERSIST", "t")
             + command("TTL", "t"), b"+OK\r\n:100\r\n:2\r\n:100\r\n:-1\r\n:-2\r\n:1\r\n:-1\r\n")
        asks(client, command("EXPIRE", "t", "-1") + command("GET", "t") + command("EXPIRE", "t", "1")
             + command("EXPIRE", "y", "x") + command("SET", "y", "3", "EX", "0") + command("SET", "y", "3", "EX"),
             b":1\r\n$-1\r\n:0\r\n-ERR value is not an integer or out of range\r\n"
             b"-ERR invalid expire time in 'set' command\r\n-ERR syntax error\r\n")
        asks(client, command("SET", "t", "1", "px", "20") + command("PEXPIRE", "y", "100000")
             + command("SET", "y", "4", "KEEPTTL") + command("TTL", "y"), b"+OK\r\n:1\r\n+OK\r\n:100\r\n")
        until(client, command("EXISTS", "t"), b":0\r\n")
        asks(client, command("SET", "y", "3") + command("TTL", "y"), b"+OK\r\n:-1\r\n")
        asks(client, command("CONFIG", "GET", "save"), b"*2\r\n$4\r\nsave\r\n$0\r\n\r\n")
        asks(client, command("ECHO", "hi") + command("PING", "ho") + command("NOPE") + command("GET"),
             b"$2\r\nhi\r\n$2\r\nho\r\n-ERR unknown command 'NOPE'\r\n"
             b"-ERR wrong number of arguments for 'get' command\r\n")
        for size in (100_000, 1_000_000, 3_000_000):
            value = os.urandom(size)
            asks(client, command("SET", "big", value) + command("GET", "big"),
                 b"+OK\r\n$%d\r\n%s\r\n" % (size, value))
        batch = [command("INCR", "batch") for _ in range(1000)]
        asks(client, b"".join(batch), b"".join(b":%d\r\n" % (i + 1) for i in range(1000)))
        # A command of very many parts costs time in proportion to them.
        pairs = [word for i in range(50_000) for word in (f"key:{i}", "value")]
        asks(client, command("MSET", *pairs) + command("GET", "key:49999"), b"+OK\r\n$5\r\nvalue\r\n")
        asks(client, command("QUIT"), b"+OK\r\n")
        assert client.recv(1) == b"", "it should have closed"
    for wrong in (b"*x\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-5\r\n", b"*1\r\n$99999999999\r\n"):
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(wrong)
            assert exactly(client, 19) == b"-ERR Protocol error"
            while client.recv(1000):
                pass


def memcached(address):
    with socket.create_connection(address, timeout=10) as client:
        asks(client, b"set a 7 0 5\r\nhe\r\no\r\nget a b\r\n", b"STORED\r\nVALUE a 7 5\r\nhe\r\no\r\nEND\r\n", 1)
        asks(client, b"add a 0 0 1\r\nx\r\nreplace b 0 0 1\r\nx\r\nadd b 0 0 0\r\n\r\nget b a\r\n",
             b"NOT_STORED\r\nNOT_STORED\r\nSTORED\r\nVALUE b 0 0\r\n\r\nVALUE a 7 5\r\nhe\r\no\r\nEND\r\n")
        asks(client, b"append b 0 0 2\r\nyz\r\nprepend b 0 0 1\r\nx\r\nget b\r\n",
             b"STORED\r\nSTORED\r\nVALUE b 0 3\r\nxyz\r\nEND\r\n")
        asks(client, b"set n 0 0 2\r\n99\r\nincr n 2\r\ndecr n 200\r\nincr a 1\r\nincr none 1\r\n",
             b"STORED\r\n101\r\n0\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\nNOT_FOUND\r\n")
        client.sendall(b"gets n\r\n")
        change = int(exactly(client, len(b"VALUE n 0 1 00\r\n0\r\nEND\r\n") - 1).split()[4])
        asks(client, b"cas n 0 0 1 %d\r\n5\r\ncas n 0 0 1 %d\r\n6\r\nget n\r\n" % (change, change),
             b"STORED\r\nEXISTS\r\nVALUE n 0 1\r\n5\r\nEND\r\n")
        asks(client, b"set q 0 0 1 noreply\r\nq\r\ndelete a noreply\r\ndelete a\r\ndelete q\r\n", b"NOT_FOUND\r\nDELETED\r\n")
        asks(client, b"set t 0 -1 1\r\nx\r\nget t\r\ntouch t 9\r\ntouch n 100\r\n", b"STORED\r\nEND\r\nNOT_FOUND\r\nTOUCHED\r\n")
        asks(client, b"version\r\nverbosity 1\r\nnonsense\r\n", b"VERSION 1.6.0-weft\r\nOK\r\nERROR\r\n")
        for size in (100_000, 1_000_000, 5_000_000):
            value = os.urandom(size)
            asks(client, b"set big 1 0 %d\r\n%s\r\nget big\r\n" % (size, value),
                 b"STORED\r\nVALUE big 1 %d\r\n%s\r\nEND\r\n" % (size, value))
        client.sendall(b"stats\r\n")
        assert exactly(client, 15) == b"STAT curr_items"
        while not exactly(client, 1) == b"E":
            pass
        asks(client, b"flush_all\r\nget big\r\n", b"ND\r\nOK\r\nEND\r\n")
        asks(client, b"set a 0 0 1\r\nx\r\nflush_all 100\r\nflush_all x\r\nget a\r\nflush_all -1\r\nget a\r\n",
             b"STORED\r\nOK\r\nCLIENT_ERROR invalid exptime argument\r\nVALUE a 0 1\r\nx\r\nEND\r\nOK\r\nEND\r\n")
        # As memcached itself has it, by memccapable of libmemcached.
        bad = b"CLIENT_ERROR bad command line format\r\n"
        usage = b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n"
        for question, answer in ((b"get", b"ERROR\r\n"), (b"gets", b"ERROR\r\n"), (b"get " + 251 * b"k", bad),
                                 (b"delete", b"ERROR\r\n"), (b"delete x 0", b"NOT_FOUND\r\n"),
                                 (b"delete x 1", usage), (b"delete x y z", usage), (b"verbosity", b"ERROR\r\n"),
                                 (b"verbosity x", bad), (b"verbosity 1 2 3", b"ERROR\r\n"), (b"incr x", b"ERROR\r\n"),
                                 (b"touch x", b"ERROR\r\n"), (b"set x 0 0", b"ERROR\r\n"),
                                 (b"stats noreply", b"ERROR\r\n"), (b"get noreply", b"END\r\n")):
            asks(client, question + b"\r\n", answer)
        now = b"%d" % time.time()
        asks(client, b"set a 0 0 1\r\nx\r\nflush_all " + now + b"\r\nget a\r\nset a 0 0 1\r\ny\r\nget a\r\n",
             b"STORED\r\nOK\r\nEND\r\nSTORED\r\nVALUE a 0 1\r\ny\r\nEND\r\n")
        client.sendall(b"quit\r\n")
        assert client.recv(1) == b"", "it should have closed"
    for wrong in (b"set a 0 0 x\r\n", b"set a 0 0 1\r\nxyz\r\n", b"set a 0 0 99999999999\r\n"):
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(wrong)
            assert exactly(client, 12) == b"CLIENT_ERROR"
            while client.recv(1000):
                pass


def relay(address):
    def asked(text):
        client = socket.create_connection(address, timeout=60)
        client.sendall(text)
        return client

    established = b"HTTP/1.1 200 Connection established\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as target:
        name = b"127.0.0.1:%d" % target.getsockname()[1]
        # What comes behind the head belongs to the target.
        with asked(b"CONNECT " + name + b" HTTP/1.1\r\nHost: x\r\n\r\nhello") as client:
            server = target.accept()[0]
            with server:
                assert exactly(client, len(established)) == established
                assert exactly(server, 5) == b"hello"
                data = os.urandom(1_000_000)
                sender = threading.Thread(target=server.sendall, args=(data,))
                sender.start()
                assert exactly(client, len(data)) == data
                sender.join()
                client.shutdown(socket.SHUT_WR)
                assert server.recv(1) == b"", "the end should have come through"
                server.sendall(b"bye")
            assert exactly(client, 3) == b"bye" and client.recv(1) == b""
    # The target listens no more.
    with asked(b"CONNECT " + name + b" HTTP/1.1\r\n\r\n") as client:
        assert exactly(client, 24) == b"HTTP/1.1 502 Bad Gateway"
    # No text of a client leads to a Unix socket.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/socket"
        listener.bind(path)
        listener.listen()
        listener.settimeout(0)
        for text in (path, f"unix:{path}", f"{path}:80", f"unix:{path}:80", f"[{path}]:80", "@name:80", "::1:80",
                     "host", ":80", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:8x"):
            with asked(f"CONNECT {text} HTTP/1.1\r\n\r\n".encode()) as client:
                answer = exactly(client, 24)
                assert answer == b"HTTP/1.1 400 Bad Request", f"{answer} to {text}"
        try:
            raise AssertionError(f"a connection to the Unix socket: {listener.accept()}")
        except BlockingIOError:
            pass


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


TALKS = {"echo": tcp_echo, "echo_coro": tcp_echo, "embed": tcp_echo, "udp_echo": udp_echo, "udp_echo_coro": udp_echo,
         "lines": lines, "chat": chat, "wrapped_protocol": wrapped_protocol, "own_framer": own_framer,
         "loop_per_thread": loop_per_thread, "relay": relay, "redis": redis, "redis_coro": redis,
         "memcached": memcached, "memcached_coro": memcached}
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
