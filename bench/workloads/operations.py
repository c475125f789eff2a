"""Programs without sockets: what a loop's and a scheduler's own operations cost."""

from suite import workload


@workload("operations", "timers, call_soon and posts from other threads, without sockets")
def operations(suite):
    suite.compare_programs("operations", "ns", [
        ("callback", "{build}/bench/bench-loop"),
        ("libuv", "{build}/bench/peers/peer-libuv-loop"),
        ("asio-callback", "{build}/bench/peers/peer-asio-loop"),
        ("libevent", "{build}/bench/peers/peer-libevent-loop"),
    ])


def unit(title):
    return "bytes" if title.endswith("each") else "ns"


@workload("coroutines", "switch, yield, hand-off, spawn, skynet, memory of 20000 that wait")
def coroutines(suite):
    def chosen(title):  # what bench-coro also tells is no time and no size of one
        return not title.endswith((" page tables", " mappings")) and "allocations" not in title

    suite.compare_programs("coroutines", unit, [
        ("coroutine", "{build}/bench/bench-coro --suspended 20000"),
        ("boost-fiber", "{build}/bench/peers/peer-boost-fiber"),
        ("state-threads", "{build}/bench/peers/peer-state-threads-tasks"),
        ("go", "{build}/bench/peers/peer-go-tasks"),
    ], chosen)


@workload("million", "a million coroutines that wait: their memory, and what starting them costs")
def million(suite):
    def chosen(title):
        return title.startswith("1000000 suspended") and title.endswith(("each", "first run"))

    suite.compare_programs("million", unit, [
        ("coroutine", "{build}/bench/bench-coro"),
        ("go", "{build}/bench/peers/peer-go-tasks --suspended 1000000"),
    ], chosen, suite.pick(6, 1))


@workload("engine", "weft over a kernel that is a script: what the engine alone costs")
def engine(suite):
    suite.compare_programs("engine", "ns", [("callback", "{build}/bench/bench-engine")])
