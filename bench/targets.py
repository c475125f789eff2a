"""What weft is to reach: its speed relative to a peer, by workload; above 1 is faster."""

from fnmatch import fnmatch

import harness
from suite import ratio_text

HAND = "hand"  # the best of the hand-written ones
ECHO = "64 B, * connections"
# (workload, its setting, weft or weft-coro, peer, at least)
TARGETS = [
    ("echo", ECHO, "weft", HAND, 0.98),
    ("echo", ECHO, "weft-coro", HAND, 0.97),
    *(("echo", ECHO, "weft", peer, 1.0)
      for peer in ("libuv", "asio-callback", "libevent", "tokio")),
    *(("echo", ECHO, "weft-coro", peer, 1.0)
      for peer in ("state-threads", "photon", "asio-await", "asio-stackful", "go")),
    *(("lines", "*", own, HAND, 0.75) for own in ("weft", "weft-coro")),
    *(("lines", "*", own, peer, 9.0) for own in ("weft", "weft-coro")
      for peer in ("libuv", "asio-callback", "asio-await", "go")),
    ("udp", "flood*", "weft", "asio-callback", 2.0),
    ("udp", "flood*", "weft", "libuv", 1.05),
    ("timeouts", "*", "weft-timeouts", "weft", 0.99),
    ("operations", "timer, add and cancel, 1*", "weft", "libuv", 2.0),
    ("operations", "post, 1 producing", "weft", "asio", 5.0),
    ("operations", "post, 1 producing", "weft", "libuv", 1.0),
    ("coroutines", "spawn and join, one*", "weft-coro", "state-threads", 1.0),
    ("coroutines", "spawn and join, one*", "weft-coro", "go", 3.0),
    ("idle", "*", "weft", "libuv", 1.0),
    ("idle", "*", "weft-coro", "go", 2.0),
]


def judge(comparisons):
    """[(workload, setting, who, peer, target, ratio with its interval or None, verdict)]"""
    judged = []
    for workload, setting, own, peer, target in TARGETS:
        for comparison in comparisons:
            if comparison["workload"] != workload or not fnmatch(comparison["setting"], setting):
                continue
            ratios = comparison["of_base"] if peer == HAND else comparison["speed"].get(own, {})
            ratio = ratios.get(own if peer == HAND else peer)
            if not ratio:
                continue
            # Only what lies below as a whole is a miss: the median alone moves by chance.
            verdict = ("met" if ratio[0] >= target else
                       "missed" if ratio[2] < target else "open")
            judged.append((workload, comparison["setting"], own, peer, target, ratio, verdict))
    return judged


def report(comparisons):
    """Prints which targets are met; returns those that are missed."""
    judged = judge(comparisons)
    if judged:
        print("\ntargets (open: the interval reaches over the target, the median does not)")
        print(harness.table(
            ["", "at least", "found", ""],
            [[f"{workload}, {setting}: {own} / {peer}", f"{target:.2f}", ratio_text(ratio), verdict]
             for workload, setting, own, peer, target, ratio, verdict in judged]))
    return [f"{workload}, {setting}: {own} / {peer}" for workload, setting, own, peer, _, _, verdict
            in judged if verdict == "missed"]
