"""What clients wait next to greedy neighbours, and what it costs the bulk that they are kept in bounds. The server has
one processor and the client, which never sleeps, the other."""

import json
import random
import socket
import struct
import subprocess
import time

import harness
import settings
from suite import valued, workload

SO_TIMESTAMPING, RECEIVED_BY_SOFTWARE = 37, 1 << 3 | 1 << 4  # linux/net_tstamp.h
PERCENTILES = {"p50": "the median", "p99": "the 99th percentile"}
OWN = [(style, settings.services(style)) for style in settings.STYLES]


def waits(suite, server, setting):
    """What 32 connections wait beside a flooder and one whose messages take 1 ms: microseconds by percentile."""
    process = harness.start(
        [str(suite.build / "bench" / "bench-waits"), "--port", str(server.port), "--flood", "--hog",
         "--seconds", str(suite.pick(1.2, 0.5)), "--warmup", "0.2"],
        setting.load_cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        said, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired as error:
        raise harness.Failure(f"{server.name}: bench-waits does not end") from error
    finally:
        harness.end(process)
    if process.returncode:
        raise harness.Failure(f"{server.name}: {errors.strip()}")
    return json.loads(said)


@workload("fairness", "what 32 connections wait next to one that floods and one that takes 1 ms each")
def fairness(suite):
    setting = settings.setting(suite.build)
    setting.load_cpu = min(suite.cpus)
    entrants = [(name, f"{settings.HAND} --hog --trigger {trigger}") for name, trigger in
                (("by hand, level", "level"), ("by hand, edge", "edge"))]
    entrants += [(name, command + " --hog") for name, command in OWN]
    entrants += suite.peers("hog", True, always=True)
    harness.check_programs(entrants, suite.build)
    # As long as one socket asks for it the kernel notes when data comes; to begin with that takes it a while.
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, struct.pack("i", RECEIVED_BY_SOFTWARE))
    time.sleep(0.3)
    found, count = {}, suite.pick(8, 3)
    for number in range(count):
        harness.say(f"fairness: round {number + 1}/{count}")
        for who, command in random.sample(entrants, len(entrants)):
            with harness.Server(who, command, setting) as server:
                measured = waits(suite, server, setting)
            for percentile in PERCENTILES:
                found.setdefault(percentile, {}).setdefault(who, []).append(measured[percentile])
    for percentile, words in PERCENTILES.items():
        suite.add({"workload": "fairness", "setting": words, "unit": "us",
                   "servers": {who: valued(values) for who, values in found[percentile].items()}})
    keeper.close()


@workload("share", "what a bound on each connection's share of a turn costs those that send in bulk")
def share(suite):
    for name, command in OWN:
        setting = settings.setting(suite.build, size=16384, connections=4, depth=32)
        suite.compare("share", f"16 KiB, 32 in flight on 4 connections, {name}s",
                      [("without a bound", command + " --unbounded")], [(name, command)], setting, counted=False)
