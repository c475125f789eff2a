"""The method of every figure that is a ratio: servers that take turns, over and over, until the interval is narrow.

A generation starts every server and a client for each, all at once and afresh, so that what a process owes to where
its memory happens to lie is drawn anew. Then they take turns of some tens of milliseconds in a random order, while
the others sleep. Of a generation the median of its turns' ratios counts. Generations go on until the interval of
their median is narrow enough, or the time is over: then the figure is noisy, which it says.
"""

import contextlib
import math
import random
import statistics
import time

import harness

WIDTH = 0.03          # of an interval, relative to the ratio: wider is noisy
FEWEST = 6            # generations, below which there is no interval of 95 %
LOST = 0.03           # of a turn that neither the server nor its client had: it was disturbed
SCREENED = 2          # bases that are kept after a first look


def take_turn(server, load, seconds):
    cpu, client, (slept, _) = server.cpu_ns(), load.cpu_ns(), server.switches()
    result = load.turn(seconds)
    cpu, client = server.cpu_ns() - cpu, load.cpu_ns() - client
    requests = result["requests"]
    return {"ns": cpu / requests, "client_ns": client / requests,
            "per_wakeup": requests / max(1, server.switches()[0] - slept),
            "per_second": requests / result["seconds"],
            "lost": 1 - (cpu + client) / (1e9 * result["seconds"])}


def generation(entrants, setting, turns):
    """{name: [turn, ...]}: all of (name, command) afresh, each for `turns` turns."""
    found = {name: [] for name, _ in entrants}
    with contextlib.ExitStack() as started:
        running = []
        for name, command in random.sample(entrants, len(entrants)):
            server = started.enter_context(harness.Server(name, command, setting))
            for question in setting.prepare:
                server.ask(question)
            load = started.enter_context(harness.Load(
                server, setting, "--turns", "--warmup", str(setting.seconds), *setting.load))
            load.warm()
            running.append((name, server, load))
        for _ in range(turns):
            for name, server, load in random.sample(running, len(running)):
                found[name].append(take_turn(server, load, setting.seconds))
    return found


def middle(turns, key="ns"):
    return statistics.median(turn[key] for turn in turns)


def screen(bases, setting):
    """The best few of the bases, after a first look."""
    if len(bases) <= SCREENED:
        return bases
    seen = [generation(bases, setting, 2) for _ in range(2)]
    return sorted(bases, key=lambda base: min(middle(found[base[0]]) for found in seen))[:SCREENED]


def undisturbed(turns, others, shared):
    """The pairs of turns that nobody else had a part in, if they are at least half of them; and whether they are."""
    pairs = list(zip(turns, others))
    kept = [pair for pair in pairs if max(turn["lost"] for turn in pair) < LOST] if shared else pairs
    return (kept, True) if 2 * len(kept) >= len(pairs) else (pairs, False)


def rank_of(count):
    """How many of so many values, sorted, may be left out at each end so that what remains spans their true median in
    95 % of all cases, whatever their distribution is."""
    left_out, outside = 0, 0.0
    while True:
        outside += math.comb(count, left_out) / 2 ** count
        if 2 * outside > 0.05:
            return left_out
        left_out += 1


def median_of(values):
    """(median, low, high); the interval is of 95 %, and of everything where there are too few values for that. It
    asks for no distribution: now and then a generation costs twice as much as the others, when the kernel has sized
    the buffers of its connections in another way."""
    ordered = sorted(values)
    left_out = max(1, rank_of(len(ordered)))
    return statistics.median(ordered), ordered[left_out - 1], ordered[-left_out]


def ratio(name, base, generations, shared):
    """Of one server: base / server, so above 1 is faster than the base."""
    ratios, quiet = [], 0
    for found in generations:
        pairs, calm = undisturbed(found[name], found[base], shared)
        ratios.append(statistics.median(other["ns"] / turn["ns"] for turn, other in pairs))
        quiet += calm
    value, low, high = median_of(ratios)
    width = (high - low) / value
    return {"ratio": value, "interval": [low, high], "width": width, "noisy": width > WIDTH or len(ratios) < FEWEST,
            "disturbed": len(generations) - quiet, "generations": len(generations)}


class Contest:
    """Servers, (name, command) each, that are compared; can be gone on with for as long as there is time."""

    def __init__(self, bases, own, setting):
        self.bases, self.own, self.setting = bases, own, setting
        self.generations = []

    def run(self, seconds, width=WIDTH, progress=harness.say):
        """Goes on until every interval is narrow enough, for at most so many seconds; returns the figures."""
        start = time.monotonic()
        if not self.generations:
            self.bases = screen(self.bases, self.setting)
        while True:
            began = time.monotonic()
            self.generations.append(generation([*self.bases, *self.own], self.setting, self.setting.turns))
            found, now = self.figures(), time.monotonic()
            if len(self.generations) >= FEWEST:
                judged = [found["servers"][name] for name, _ in self.own]
                progress(f"  {len(self.generations)} generations, {now - start:.0f} s: " + ", ".join(
                    f"{name} {figure.get('ratio', 1):.3f}" for (name, _), figure in zip(self.own, judged)))
                if all(figure.get("width", 0) <= width for figure in judged):
                    break
            if now + (now - began) > start + seconds and len(self.generations) >= 2:
                break
        return found

    def figures(self):
        """{"base": name, "servers": {name: figures}} of what there is so far. Of several bases the best counts."""
        names = [name for name, _ in (*self.bases, *self.own)]
        everything = {name: [turn for found in self.generations for turn in found[name]] for name in names}
        base = min((name for name, _ in self.bases), key=lambda name: middle(everything[name]))
        shared = self.setting.server_cpu == self.setting.load_cpu
        return {"base": base, "servers": {
            name: {**{key: middle(everything[name], key) for key in ("ns", "client_ns", "per_wakeup", "per_second")},
                   **(ratio(name, base, self.generations, shared) if name != base else {})}
            for name in names}}
