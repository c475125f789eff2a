"""The parts of tools/bench that every workload uses: what takes part, comparing, and what is found.

A comparison is one setting of one workload: {"workload", "setting", "unit", "base", "servers": {name: figure}}. A
figure has a `value` in the unit, lower is better; and, where there is a base, `ratio`, the base's value divided by it.
Both have an `interval` of 95 %, and a `noisy` that says whether that is too wide to be a result.
"""

import json
import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

import counting
import harness
import servers
import settings
import turns

WORKLOADS = {}               # name: (function, what it tells)
COUNTED = ("callback", "coroutine")


def workload(name, text):
    """Registers a function, which is given a Suite, as a workload."""
    def register(function):
        WORKLOADS[name] = (function, text)
        return function
    return register


def valued(values):
    """A figure from values that were each taken afresh."""
    median, low, high = turns.median_of(values)
    noisy = (high - low) / median > turns.WIDTH or len(values) < turns.FEWEST
    return {"value": median, "interval": [low, high], "noisy": noisy, "generations": len(values)}


def exact(value):
    """A figure that is counted, or measured where noise has no part."""
    return {"value": value, "interval": [value, value], "noisy": False}


class Suite:
    """One run of tools/bench; workloads add their comparisons to it."""

    def __init__(self, options):
        self.options, self.build = options, options.build
        self.comparisons, self.contests, self.skipped = [], [], {}
        self.scratch = tempfile.TemporaryDirectory(prefix="weft-bench-")
        self.cpus = sorted(os.sched_getaffinity(0))
        for server in servers.PEERS:
            if reason := servers.missing(server, self.build):
                self.skipped[server.name] = reason

    def file(self, content):
        """The path of a file with these bytes, which is there for as long as the suite is."""
        path = pathlib.Path(self.scratch.name, str(len(list(pathlib.Path(self.scratch.name).iterdir()))))
        path.write_bytes(content)
        return str(path)

    def pick(self, full, quick):
        return quick if self.options.quick else full

    def peers(self, mode, large=False, always=False):
        """(name, command) of the peers that take part, and of those that were given with --peer. `always`: even in a
        run of what decides, where they are few."""
        if self.options.decide and not always:
            return []
        found = [(peer.name, peer.start(mode, large)) for peer in servers.PEERS
                 if mode in peer.modes and self.takes_part(peer.name)]
        if self.options.decide:
            return [pair for pair in found if pair[0] in servers.DECIDING_PEERS]
        return found + [text.partition("=")[::2] for text in self.options.peer] * (mode == "echo")

    def takes_part(self, name):
        return name not in self.skipped and (not self.options.peers or name in self.options.peers)

    def race(self, workload, title, changes, peers=(), counted=True):
        """A workload of settings.py with these changes to what the client does."""
        setting = settings.setting(self.build, **{**settings.WORKLOADS[workload][2], **changes})
        bases, own = settings.entrants(workload, setting.size, settings.STYLES)
        self.compare(workload, title, bases, [*own, *peers], setting, counted)

    def compare(self, name, title, bases, others, setting, counted=True):
        """Processor time per request of (name, command) each, relative to the best of the bases."""
        harness.stay_away({setting.server_cpu, setting.load_cpu})
        harness.check_programs([*bases, *others], self.build)
        harness.say(f"{name}: {title}")
        comparison = {"workload": name, "setting": title, "unit": "ns"}
        contest = turns.Contest(bases, others, setting)
        if not self.options.counts_only:
            self.time(comparison, contest, self.options.seconds)
        if counted and self.options.counts:
            self.count(comparison, contest)
        if "servers" in comparison:
            self.add(comparison)
            self.contests.append((comparison, contest))

    def time(self, comparison, contest, seconds):
        counts = {name: figure["counts"] for name, figure in comparison.get("servers", {}).items()
                  if "counts" in figure}
        found = contest.run(seconds)
        comparison["base"] = found["base"]
        comparison["servers"] = {
            name: {"value": round(figure["ns"], 1), **{key: value for key, value in figure.items() if key != "ns"}}
            for name, figure in found["servers"].items()}
        for name, figures in counts.items():
            comparison["servers"].setdefault(name, {})["counts"] = figures

    def count(self, comparison, contest):
        """Instructions and simulated misses, which a busy machine does not move, of the base and of weft."""
        setting, counts = contest.setting, {}
        setting.rounds = settings.rounds_to_count(setting)
        base = comparison.get("base") or contest.bases[0][0]
        for name, command in [*contest.bases, *contest.own]:
            if name == base or name in COUNTED:
                counts[name] = {key: round(value, 1) for key, value in counting.measure_simulated(
                    name, command, setting).items()}
        comparison.setdefault("base", base)
        for name, figures in counts.items():
            comparison.setdefault("servers", {}).setdefault(name, {})["counts"] = figures

    def settle_noisy(self, seconds):
        """Goes on with what is noisy, for so many seconds in all."""
        end = time.monotonic() + seconds
        noisy = [pair for pair in self.contests if "value" in next(iter(pair[0]["servers"].values()), {})
                 and any(pair[0]["servers"][name].get("noisy") for name, _ in pair[1].own)]
        for number, (comparison, contest) in enumerate(noisy):
            share = (end - time.monotonic()) / (len(noisy) - number)
            if share < 3:
                break
            harness.say(f"once more, {share:.0f} s: {comparison['workload']}: {comparison['setting']}")
            self.time(comparison, contest, share)
            print(table(comparison), flush=True)

    def compare_programs(self, name, unit, entrants, chosen=lambda title: True, count=None):
        """Figures of (name, command) programs that print {figure: value} as JSON, the `chosen` ones, each a
        comparison of those programs that have it."""
        entrants = [(who, command) for who, command in entrants if self.takes_part(who)]
        for who, command in list(entrants):
            program = command.replace("{build}", str(self.build)).split()[0]
            if not shutil.which(program):
                self.skipped[f"{who} ({name})"] = f"{program} is not built"
                entrants.remove((who, command))
        found, count = {}, count or self.pick(7, 3)
        for number in range(count):
            for who, command in random.sample(entrants, len(entrants)):
                harness.say(f"{name}: round {number + 1}/{count}: {who}")
                for figure, value in self.figures_of(who, command).items():
                    if chosen(figure):
                        found.setdefault(figure, {}).setdefault(who, []).append(value)
        for title, values in found.items():
            self.add({"workload": name, "setting": title, "unit": unit(title) if callable(unit) else unit,
                      "servers": {who: valued(figures) for who, figures in values.items()}})

    def figures_of(self, who, command):
        """Runs a program on all processors; returns the object that it prints."""
        filled = command.replace("{build}", str(self.build))
        ran = subprocess.run(["setarch", "-R", *filled.split(), "--json", "--repetitions", "1"],
                             capture_output=True, text=True, check=False)
        if ran.returncode:
            raise harness.Failure(f"{who}: `{filled}` ended with status {ran.returncode}: {ran.stderr.strip()}")
        return {title: value["value"] if isinstance(value, dict) else value
                for title, value in json.loads(ran.stdout).items()}

    def add(self, comparison):
        self.comparisons.append(comparison)
        print(table(comparison), flush=True)


def merged(old, new):
    """The comparisons of two runs: of the same setting the newer figures stand, counts stay beside new times."""
    found = {(comparison["workload"], comparison["setting"]): comparison for comparison in old}
    for comparison in new:
        key = comparison["workload"], comparison["setting"]
        known = found.get(key, {}).get("servers", {})
        timed = any("value" in figure for figure in comparison["servers"].values())
        if known and not timed:  # counts alone: they go beside the times that there are
            joined = {name: {**known.get(name, {}), **comparison["servers"].get(name, {})}
                      for name in {**known, **comparison["servers"]}}
            found[key] = {**found[key], "servers": joined}
            continue
        for name, figure in comparison["servers"].items():
            if "counts" in known.get(name, {}):
                figure.setdefault("counts", known[name]["counts"])
        found[key] = comparison
    return list(found.values())


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio_text(figure):
    if "ratio" not in figure:
        return ""
    low, high = figure["interval"]
    return f"{figure['ratio']:.3f} ({low:.3f} .. {high:.3f})" + " noisy" * figure["noisy"]


def table(comparison):
    """One comparison as text."""
    based = comparison.get("base")
    timed = any("value" in figure for figure in comparison["servers"].values())
    counts = next((list(figure["counts"]) for figure in comparison["servers"].values() if "counts" in figure), [])
    header = ["", *[comparison["unit"]] * timed, *([f"speed, {based} = 1"] if based and timed else []), *counts]
    rows = []
    for who, figure in sorted(comparison["servers"].items(), key=lambda pair: pair[1].get("value", 0)):
        row = [who]
        if timed:
            spread = "" if based or "interval" not in figure or figure["interval"][0] == figure["interval"][1] else (
                " ({} .. {})".format(*map(number, figure["interval"])) + " noisy" * figure["noisy"])
            row += [number(figure["value"]) + spread if "value" in figure else ""]
            row += [ratio_text(figure)] * bool(based)
        rows.append(row + [number(figure["counts"][key]) if "counts" in figure else "" for key in counts])
    return f"\n{comparison['workload']}: {comparison['setting']}\n{harness.table(header, rows)}"
