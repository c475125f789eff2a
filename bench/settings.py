"""What is compared with what, by workload: the hand-written servers, weft in both styles, and what the client does."""

import argparse
import os

import harness

HAND = "{build}/bench/bench-echo-base --port {port}"
LINES = "{build}/bench/bench-lines-base --port {port}"
TOOL = "{build}/tools/weft echo --tcp 127.0.0.1:{port}"
UDP = "{build}/bench/bench-udp-base --port {port}"
STYLES = ("callback", "coroutine")
SMALL = 4096  # bytes of a message up to which a larger receive can not help


def hand_echo(size):
    """The variants among which the best is to be found, by the size of the messages."""
    if size <= SMALL:
        return {f"hand {trigger}/{calls}": f"{HAND} --trigger {trigger} --calls {calls}"
                for trigger in ("level", "edge") for calls in ("recv", "read")}
    kilobytes = (16, 64, 256) if size <= 128 * 1024 else (64, 256, 1024)
    return {f"hand {trigger}/{kb}K": f"{HAND} --trigger {trigger} --buffer {kb * 1024}"
            for trigger in ("level", "edge") for kb in kilobytes}


def hand_lines(size):
    return {f"hand {trigger}": f"{LINES} --trigger {trigger}" for trigger in ("level", "edge")}


def hand_flood(size):
    return {"hand recvmmsg": UDP + " --sink"}


def readme(style):
    return f"{{build}}/bench/bench-readme-{style} {{port}}"


def tool(style):
    return TOOL + " --style " + {"callback": "callback", "coroutine": "coro"}[style]


def services(style):
    return "{build}/bench/bench-" + {"callback": "", "coroutine": "coro-"}[style] + "services --port {port}"


# workload: (hand-written servers by size, own servers by style, what else the client is told)
WORKLOADS = {
    "echo": (hand_echo, readme, {}),
    "lines": (hand_lines, lambda style: tool(style) + " --lines", {"depth": 16}),
    "connect": (hand_echo, readme, {"reconnect": True}),
    "udp": (lambda size: {"hand recvmmsg": UDP, "hand recvfrom": UDP + " --batch 1"},
            lambda style: tool(style).replace("--tcp", "--udp"), {"udp": True, "connections": 16}),
    "flood": (hand_flood, lambda style: services(style) + " --udp --sink",
              {"udp": True, "sink": True, "connections": 4, "depth": 32}),
}


CPUS = sorted(os.sched_getaffinity(0))  # before this script keeps off some of them


def setting(build, **changes):
    """What harness and turns read of one comparison."""
    cpus = CPUS
    values = {"connections": 64, "size": 64, "depth": 1, "udp": False, "sink": False, "build": build,
              "server_cpu": cpus[-1], "load_cpu": cpus[-1], "reconnect": False, "seconds": 0.06, "turns": 5,
              "prepare": (), "load": ()}
    values.update(changes)
    if values["reconnect"]:
        values["load"] = (*values["load"], "--reconnect")
    harness.allow_descriptors(8 * values["connections"] + 400)
    return argparse.Namespace(**values)


def entrants(workload, size, styles, program=None):
    """([(name, command)] of the bases, the same of weft's own)"""
    hand, own, _ = WORKLOADS[workload]
    found = [(style, (program or own)(style)) for style in styles]
    return list(hand(size).items()), found


def rounds_to_count(setting):
    """As many as give some thousand requests, or some hundred MiB under callgrind."""
    requests = setting.connections * setting.depth
    return max(2, min(6400, (256 << 20) // setting.size) // requests)
