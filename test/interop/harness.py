"""What the scripts of this folder share: services to start, programs to need, cases to run.

A script takes the path of the program `weft`, and options for its echo service. Each function marked with @case runs once and counts as one test:
with WEFT_CASE_LOG in the environment the outcome is told in the lines that tools/count-tests reads. Nothing sleeps:
whatever is waited for is read from a socket or a pipe, with a bound after which the case fails. A case as a whole has a
deadline, too (WEFT_CASE_DEADLINE in seconds): it fails with the line in which it waits.
"""

import contextlib
import faulthandler
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import traceback

PATIENCE = 30  # seconds until something that should have come is taken for missing
DEADLINE = int(os.environ.get("WEFT_CASE_DEADLINE") or 240)  # seconds that a case may take; 0: any time
WEFT = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "weft"
STYLE = sys.argv[2:]  # options for every `weft echo`

cases = []


class Stuck(BaseException):
    """The case did not end in time."""


class Skip(Exception):
    """The case can not run here; the text says why."""


def case(function):
    cases.append(function)
    return function


def need(program):
    path = shutil.which(program)
    if path is None:
        raise Skip(f"{program} is not installed")
    return path


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def equal(found, wanted, what):
    if found != wanted:
        shorten = lambda v: repr(v) if len(repr(v)) < 200 else f"{repr(v)[:200]}... ({len(v)} long)"
        raise AssertionError(f"{what}: found {shorten(found)}, wanted {shorten(wanted)}")


class Echo:
    """A running `weft echo`; leaving the context ends it and checks that it ended well.

    `addresses` are those it told: ("127.0.0.1", port) or a path, by kind."""

    def __init__(self, *options, before=(), ends=0, **popen):
        self.ends = ends
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([*before, WEFT, "echo", *STYLE, *options], stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, **popen)
        self.addresses = {}
        wanted = sum(option in ("--tcp", "--udp", "--unix") for option in options)
        for _ in range(wanted):
            words = self.process.stdout.readline().split()
            if len(words) != 4:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"weft echo {' '.join(options)} did not start: {self.stderr()}")
            self.addresses.setdefault(words[2], []).append(parse(words[3]))

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read()

    @property
    def tcp(self):
        return self.addresses["tcp"][0]

    @property
    def udp(self):
        return self.addresses["udp"][0]

    @property
    def unix(self):
        return self.addresses["unix"][0]

    def memory(self):
        """Resident kilobytes."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        return self.process.wait(PATIENCE)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.output = self.process.stdout.read()
        self.process.stdout.close()
        errors = self.stderr()
        self.errors.close()
        if kind is None:
            check(status == self.ends, f"weft echo ended with status {status}, wanted {self.ends}: {errors}")
            check("Sanitizer" not in errors and "runtime error" not in errors, errors)
        elif errors:
            print(errors)


def parse(text):
    if text.startswith(("/", "@")):
        return text
    host, _, port = text.rpartition(":")
    return (host.strip("[]"), int(port))


def run(*command, input=b"", status=0, **options):
    """Runs a program to its end; returns what it wrote to standard output, as bytes."""
    done = subprocess.run(command, input=input, capture_output=True, timeout=PATIENCE, check=False, **options)
    equal(done.returncode, status, f"status of {' '.join(map(str, command))} ({done.stderr.decode()})")
    return done.stdout


def refused(*options, status, before=(), **popen):
    """Runs `weft OPTION...`, which is to fail with `status`; returns its text on standard error."""
    done = subprocess.run([*before, WEFT, *options], capture_output=True, text=True, timeout=PATIENCE, check=False,
                          **popen)
    equal(done.returncode, status, f"status of weft {' '.join(options)} ({done.stderr})")
    return done.stderr


def connect(address):
    """A blocking socket to an address of an `Echo`; its operations have a bound."""
    if isinstance(address, str):
        client = socket.socket(socket.AF_UNIX)
        target = "\0" + address[1:] if address.startswith("@") else address
    else:
        client = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        target = address
    client.settimeout(PATIENCE)
    client.connect(target)
    return client


def receive(client, size):
    """Exactly `size` bytes, or fewer if the stream ends."""
    data = bytearray()
    while len(data) < size:
        piece = client.recv(min(size - len(data), 1 << 20))
        if not piece:
            break
        data += piece
    return bytes(data)


def echoes(client, text=b"ping"):
    client.sendall(text)
    equal(receive(client, len(text)), text, "answer")


def fill(client, data):
    """Sends `data` over and over until nobody takes it any more; returns how many bytes went."""
    sent = 0
    client.setblocking(False)
    # A second without room: the service reads no more, because nobody takes its answers.
    while select.select([], [client], [], 1)[1]:
        sent += client.send(data[sent % len(data):])
        check(sent < 256 << 20, "the service goes on reading though nobody takes its answers")
    client.settimeout(PATIENCE)
    return sent


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="weft-") as path:
        yield pathlib.Path(path)


def tell(event, name=""):
    if os.environ.get("WEFT_CASE_LOG"):
        print(f"\n@case {event} {name}".rstrip(), flush=True)


def on_stuck(*_):
    raise Stuck(f"STUCK: the case has not ended after {DEADLINE} s; the last line above is where it waits")


def main():
    tell("run", str(len(cases)))
    signal.signal(signal.SIGALRM, on_stuck)
    failed = 0
    for function in cases:
        name = (function.__doc__ or function.__name__).strip().rstrip(".")
        tell("begin", name)
        signal.alarm(DEADLINE)
        # If even giving up does not end.
        faulthandler.dump_traceback_later(2 * DEADLINE or 1e6, exit=True, file=sys.stdout)
        try:
            function()
        except Skip as reason:
            print(f"skipped: {name}: {reason}", flush=True)
            tell("skipped", name)
            continue
        except BaseException:  # an interrupt, too, must say where it struck
            failed += 1
            print(f"FAILED: {name}")
            traceback.print_exc(file=sys.stdout)
            tell("failed", name)
            continue
        finally:
            signal.alarm(0)
        tell("passed", name)
    faulthandler.cancel_dump_traceback_later()
    print(f"{len(cases) - failed} of {len(cases)} cases well")
    sys.exit(1 if failed else 0)
