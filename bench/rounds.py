"""What bench/ratio and tools/bench share: rounds of runs, and what follows from them.

Every round starts each server afresh. The rounds take the servers in a random order, then in its
reverse; a ratio is formed within one round, so that drift cancels.
"""

import random
import statistics

import harness


def steal_and_total(cpu):
    """Clock ticks of one or several processors that the hypervisor took, and all of them."""
    names = {f"cpu{number}" for number in (cpu if isinstance(cpu, set) else {cpu})}
    ticks = [[int(value) for value in line.split()[1:9]] for line in open("/proc/stat")
             if line.split()[0] in names]
    return sum(row[7] for row in ticks), sum(map(sum, ticks))


def measure(name, command, options):
    """One fresh run of one server."""
    with harness.Server(name, command, options) as server, \
            harness.Load(server, options, "--seconds", str(options.seconds),
                         "--warmup", str(options.warmup),
                         *(["--reconnect"] if options.reconnect else [])) as load:
        load.warm()
        stolen, ticks = steal_and_total(options.server_cpu)
        cpu, (slept, preempted) = server.cpu_ns(), server.switches()
        result = load.measure()
        cpu_after, (slept_after, preempted_after) = server.cpu_ns(), server.switches()
        stolen_after, ticks_after = steal_and_total(options.server_cpu)
    requests = result["requests"]
    return {"ns": (cpu_after - cpu) / requests,
            "requests_per_second": requests / result["seconds"],
            "requests_per_wakeup": requests / max(1, slept_after - slept),
            "preempted": preempted_after - preempted,
            "steal": (stolen_after - stolen) / max(1, ticks_after - ticks)}


def measure_all(servers, options):
    """Returns {name: [run, ...]}, one run per round for each server."""
    runs = {name: [] for name, _ in servers}
    order = []
    for number in range(options.rounds):
        order = order[::-1] if number % 2 else random.sample(servers, len(servers))
        for name, command in order:
            runs[name].append(measure(name, command, options))
        harness.say(f"round {number + 1}/{options.rounds}: " + "  ".join(
            f"{name} {runs[name][-1]['ns']:.0f} ns" for name, _ in servers))
    return runs


def disturbed(runs):
    """The rounds in which a server's figure cannot be trusted."""
    typical = statistics.median(run["preempted"] for run in runs)
    return {number for number, run in enumerate(runs)
            if run["steal"] > 0.005 or run["preempted"] > max(20, 3 * typical)}


def interval(values, resamples=4000):
    """Bootstrap 95 % confidence interval of the median."""
    generator = random.Random(1)  # the same figures give the same interval
    medians = sorted(statistics.median(generator.choices(values, k=len(values)))
                     for _ in range(resamples))
    return medians[int(0.025 * resamples)], medians[int(0.975 * resamples) - 1]


def ratio_of(values, others, without=()):
    """(median, low, high) of others / values, pair by pair: above 1, `values` are the lower ones."""
    ratios = [other / value for number, (value, other) in enumerate(zip(values, others))
              if number not in without]
    return (statistics.median(ratios), *interval(ratios))


def disturbed_pair(name, base, runs):
    """The rounds to leave out when two servers are compared; none if they would be too many."""
    bad = disturbed(runs[name]) | disturbed(runs[base])
    if len(runs[name]) - len(bad) < len(runs[name]) / 2:
        harness.say(f"{name}: {len(bad)} of {len(runs[name])} rounds were disturbed; "
                    "all are used, and the figures are worth little")
        return set()
    return bad


def compare(name, base, runs):
    """The figures of one server relative to the base."""
    bad = disturbed_pair(name, base, runs)
    ratio, *around = ratio_of([run["ns"] for run in runs[name]],
                              [run["ns"] for run in runs[base]], bad)
    middle = {key: statistics.median(run[key] for run in runs[name]) for key in runs[name][0]}
    return {"name": name, "median_ns": middle["ns"], "ratio": ratio,
            "interval": around, "rounds_used": len(runs[name]) - len(bad),
            "requests_per_wakeup": middle["requests_per_wakeup"],
            "requests_per_second": middle["requests_per_second"],
            "steal": middle["steal"], "runs": runs[name]}
