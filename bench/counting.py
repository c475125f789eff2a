"""What bench/count, bench/guard and tools/bench share: counting what servers do for a request."""

import collections
import pathlib
import re
import struct
import subprocess
import tempfile

import harness

FUNCTION = "  "  # how the figure of a function begins, so that it is set in below the total


def system_calls(name, command, options, rounds, *arguments):
    """{call: count} of one whole run under strace; `call EAGAIN` and the like count as `failed`."""
    with tempfile.NamedTemporaryFile(mode="r", prefix="weft-count-") as output:
        wrapper = ["strace", "-f", "-c", "-U", "calls,errors,name", "-o", output.name]
        with harness.Server(name, command, options, wrapper) as server:
            run_load(server, options, rounds, *arguments)
        counts = {}
        for line in output:
            fields = line.split()
            if len(fields) >= 2 and fields[0].isdigit() and fields[-1] != "total":
                counts[fields[-1]] = int(fields[0])
                if len(fields) == 3:
                    counts[f"{fields[-1]}, failed"] = int(fields[1])
        if not counts:
            raise harness.Failure(f"{name}: strace reported nothing")
        return counts


def instructions(name, command, options, rounds):
    """{function: user-space instructions spent in it} of one whole run, and their total."""
    with tempfile.NamedTemporaryFile(prefix="weft-count-") as output:
        wrapper = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={output.name}"]
        with harness.Server(name, command, options, wrapper) as server:
            said = run_load(server, options, rounds)
        listing = subprocess.run(["callgrind_annotate", "--threshold=100", output.name],
                                 capture_output=True, text=True, check=False).stdout
    counts = collections.Counter()
    # "  4,038,144 (16.43%)  file:function [object]"; no file is ???, a function may hold blanks.
    for count, what in re.findall(r"^ *([\d,]+) \([ \d.]+%\)  (.*)$", listing, re.MULTILINE):
        function = "total" if what == "PROGRAM TOTALS" else re.sub(
            r"^[^ :]*:(?!:)| \[[^]]*\]$", "", what)
        counts[function] += int(count.replace(",", ""))
    if "total" not in counts:
        raise harness.Failure(f"{name}: callgrind reported no count: {said[-500:]}")
    return counts


CACHES = {"D1 misses": ("D1mr", "D1mw"), "last-level misses": ("ILmr", "DLmr", "DLmw")}


def simulated(name, command, options, rounds):
    """Instructions of one whole run, and misses of the caches that callgrind simulates. The caches are given, so that
    the figures are the same on every machine."""
    with tempfile.NamedTemporaryFile(mode="r", prefix="weft-count-") as output:
        wrapper = ["valgrind", "--tool=callgrind", "--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64",
                   "--LL=1048576,16,64", f"--callgrind-out-file={output.name}"]
        with harness.Server(name, command, options, wrapper) as server:
            for question in options.prepare:
                server.ask(question)
            said = run_load(server, options, rounds, *options.load)
        lines = dict(line.split(":", 1) for line in output if line.startswith(("events:", "totals:")))
    if "totals" not in lines:
        raise harness.Failure(f"{name}: callgrind reported no count: {said[-500:]}")
    counts = dict(zip(lines["events"].split(), map(int, lines["totals"].split())))
    return {"instructions": counts["Ir"],
            **{title: sum(counts[event] for event in events) for title, events in CACHES.items()}}


def measure_simulated(name, command, options):
    """Instructions and simulated cache misses of a request."""
    found = per_request(simulated, name, command, options, options.connections * options.depth)
    return {key: found[key] for key in ("instructions", *CACHES)}


def run_load(server, options, rounds, *arguments):
    """A whole run; returns the server's standard error."""
    with harness.Load(server, options, "--rounds", str(rounds), *arguments) as load:
        load.warm()
        load.measure()
        load.leave()
    server.drain()
    return server.finish()


def per_request(count, name, command, options, requests_per_round, *arguments):
    """Counts in R and in 2R rounds, subtracted and divided."""
    once = count(name, command, options, options.rounds, *arguments)
    twice = count(name, command, options, 2 * options.rounds, *arguments)
    return {key: (twice.get(key, 0) - once.get(key, 0)) / (options.rounds * requests_per_round)
            for key in {*once, *twice}}


def measure_calls(name, command, options):
    found = per_request(system_calls, name, command, options,
                        options.connections * options.depth)
    return {f"{key} / request": value for key, value in found.items()}


def measure_connections(name, command, options):
    if options.udp:
        return {}
    found = per_request(system_calls, name, command, options, options.connections, "--reconnect")
    return {f"{key} / connection": value for key, value in found.items()}


def measure_instructions(name, command, options):
    found = per_request(instructions, name, command, options, options.connections * options.depth)
    total = {"instructions / request": found.pop("total")}
    return total | {FUNCTION + key: value for key, value in found.items() if options.profile}


def measure_heap(name, command, options, connecting=True):
    counter = options.build / "bench" / "bench-count-malloc.so"
    figures = {}
    with tempfile.NamedTemporaryFile(prefix="weft-count-") as shared:
        environment = {"LD_PRELOAD": str(counter.resolve()), "WEFT_COUNT_FILE": shared.name}

        def counters():
            return struct.unpack("4Q", pathlib.Path(shared.name).read_bytes())

        with harness.Server(name, command, options, environment=environment) as server:
            if not any(counters()):
                raise harness.Failure(f"{name}: {counter} counted nothing; is it a static program?")
            for per, arguments in (("request", []), ("connection", ["--reconnect"])):
                if per == "connection" and (options.udp or not connecting):
                    break
                rounds = ["--rounds", str(options.rounds)]
                with harness.Load(server, options, *rounds, *arguments) as load:
                    load.warm()
                    before = counters()
                    requests = load.measure()["requests"]
                    after = counters()
                    load.leave()
                count = requests if per == "request" else requests / options.depth
                for what, begin, end in zip(("allocations", "frees", "bytes allocated", "bytes copied"),
                                            before, after):
                    figures[f"{what} / {per}"] = (end - begin) / count
                server.drain()
    return figures


def measure_memory(name, command, options):
    """After a first crowd has come and gone, so that what is paid once is not counted."""
    with harness.Server(name, command, options) as server:
        with harness.Load(server, options, "--rounds", "1", connections=16) as load:
            load.warm()
            load.measure()
            load.leave()
        before = server.memory()
        with harness.Load(server, options, "--rounds", "1", connections=options.idle) as load:
            load.warm()
            load.measure()
            used = server.memory() - before
    return {"bytes / idle connection": used / options.idle}


MEASURES = {"calls": measure_calls, "connections": measure_connections,
            "instructions": measure_instructions, "heap": measure_heap, "memory": measure_memory}
