"""Programs without sockets: what a loop's and a scheduler's own operations cost."""

from suite import workload


@workload("operations", "timers, call_soon and posts from other threads, without sockets")
def operations(suite):
    suite.compare_programs("operations", "ns", [
        ("weft", "{build}/bench/bench-loop"),
        ("libuv", "{build}/bench/peers/peer-libuv-loop"),
        ("asio", "{build}/bench/peers/peer-asio-loop"),
        ("libevent", "{build}/bench/peers/peer-libevent-loop"),
    ])


@workload("coroutines", "switch, yield, hand-off, spawn, skynet, a million suspended coroutines")
def coroutines(suite):
    suite.compare_programs("coroutines", lambda title: "bytes" if "bytes" in title else "ns", [
        ("weft-coro", "{build}/bench/bench-coro"),
        ("boost-fiber", "{build}/bench/peers/peer-boost-fiber"),
        ("state-threads", "{build}/bench/peers/peer-state-threads-tasks"),
        ("go", "{build}/bench/peers/peer-go-tasks"),
    ])


@workload("engine", "weft over a kernel that is a script: what the engine alone costs")
def engine(suite):
    suite.compare_programs("engine", "ns", [("weft", "{build}/bench/bench-engine")])
