"""What clients wait: latencies under a load by plan, alone and next to greedy neighbours. The server
has one processor and the load the other."""

import contextlib
import json
import random
import socket
import subprocess
import threading

import harness
from suite import workload
from .echo import HAND

PERCENTILES = ("p50", "p90", "p99", "p99.9")
HOGS = {"weft": "{build}/bench/bench-services --port {port} --hog"}


def start_load(suite, server, rate, connections, seconds, *more):
    return harness.start(
        [str(suite.build / "tools" / "weft"), "load", "--tcp", f"127.0.0.1:{server.port}",
         "--connections", str(connections), "--size", "64", "--rate", str(rate),
         "--duration", str(seconds), "--warmup", "0.3", "--no-progress", "--json", *more],
        suite.cpus[0], stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def latencies(suite, server, rate, connections, seconds):
    """Microseconds by percentile."""
    process = start_load(suite, server, rate, connections, seconds)
    try:
        said, errors = process.communicate(timeout=seconds + 60)
    finally:
        harness.end(process)
    if process.returncode:
        raise harness.Failure(f"{server.name}: weft load: {said.strip()} {errors.strip()}")
    return json.loads(said)["latency_us"]


def measure(suite, name, entrants, run):
    """Adds a comparison for each percentile of what `run` returns for a server."""
    options = suite.setting(load_cpu=suite.cpus[0])
    found = {percentile: {who: [] for who, _ in entrants} for percentile in PERCENTILES}
    for number in range(options.rounds):
        harness.say(f"{name}: round {number + 1}/{options.rounds}")
        for who, command in random.sample(entrants, len(entrants)):
            with harness.Server(who, command, options) as server:
                for percentile, value in run(server).items():
                    if percentile in found:
                        found[percentile][who].append(value)
    for percentile, values in found.items():
        suite.add(name, percentile, "us", values)


@workload("latency", "latency at 20000 messages a second by plan, on 64 connections")
def latency(suite):
    entrants = suite.servers("echo", ("hand-edge",))
    seconds = suite.pick(3, 1)
    measure(suite, "latency", entrants, lambda server: latencies(suite, server, 20_000, 64, seconds))


def hog(port, over):
    """A connection whose messages take the server a millisecond each, a hundred times a second."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while not over.wait(0.01):
            connection.sendall(b"!" + bytes(63))
            connection.recv(64, socket.MSG_WAITALL)


@contextlib.contextmanager
def neighbours(suite, server, seconds):
    """A flooder and a hog, for as long as the block lasts."""
    over = threading.Event()
    greedy = threading.Thread(target=hog, args=(server.port, over))
    greedy.start()
    flooder = harness.start(
        [str(suite.build / "tools" / "weft"), "load", "--tcp", f"127.0.0.1:{server.port}",
         "--connections", "1", "--size", "16384", "--depth", "64", "--duration",
         str(seconds + 30), "--no-progress"],
        suite.cpus[0], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        harness.end(flooder)
        over.set()
        greedy.join()


@workload("fairness", "what 32 connections wait next to one that floods and one that takes 1 ms each")
def fairness(suite):
    entrants = [(name, HOGS.get(name, command + " --hog" * name.startswith("hand")))
                for name, command in suite.servers("hog", HAND, large_buffer=True)]
    seconds = suite.pick(3, 1)

    def run(server):
        with neighbours(suite, server, seconds):
            return latencies(suite, server, 2_000, 32, seconds)

    measure(suite, "fairness", entrants, run)
