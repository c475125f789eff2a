"""The parts of tools/bench that every workload uses: settings, running, and what is found."""

import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess

import harness
import rounds
import servers

OWN = ("weft", "weft-coro", "weft-timeouts")  # whose speed relative to each peer is reported
WORKLOADS = {}               # name: (function, what it tells)


def workload(name, text):
    """Registers a function, which is given a Suite, as a workload."""
    def register(function):
        WORKLOADS[name] = (function, text)
        return function
    return register


class Suite:
    """One run of tools/bench; workloads add their comparisons to it."""

    def __init__(self, options):
        self.options, self.build = options, options.build
        self.quick = options.quick
        self.comparisons = []
        self.skipped = {}
        self.extra = [servers.Server(*text.partition("=")[::2]) for text in options.peer]
        self.cpus = sorted(os.sched_getaffinity(0))
        for server in servers.BY_NAME.values():
            if reason := servers.missing(server, self.build):
                self.skipped[server.name] = reason

    def pick(self, full, quick):
        return quick if self.quick else full

    def available(self, name):
        """Whether a server or program takes part: chosen, and there."""
        chosen = self.options.peers
        return name not in self.skipped and (
            not chosen or name in chosen or name.startswith(("hand", "weft")))

    def servers(self, mode, hand=(), names=None, large_buffer=False):
        """(name, command) of all that take part: the hand-written ones, weft, the peers."""
        wanted = [servers.BY_NAME[name] for name in hand]
        wanted += [server for server in (*servers.WEFT, *servers.PEERS)
                   if mode in server.modes and (names is None or server.name in names)]
        found = []
        for server in wanted:
            if not self.available(server.name):
                continue
            command = (server.command if server.name in hand else
                       server.start_with_large_buffer(mode) if large_buffer else server.start(mode))
            found.append((server.name, command))
        if mode == "echo":
            found += [(server.name, server.command) for server in self.extra]
        return found

    def setting(self, **changes):
        """What harness and rounds read: the common settings with those of one comparison."""
        values = {"connections": 64, "size": 64, "depth": 1, "udp": False, "reconnect": False,
                  "build": self.build, "server_cpu": self.cpus[-1], "load_cpu": self.cpus[-1],
                  "rounds": self.options.rounds, "seconds": self.options.seconds,
                  "warmup": self.options.seconds / 4}
        setting = argparse.Namespace(**{**values, **changes})
        harness.allow_descriptors(setting.connections + 200)
        return setting

    def compare_servers(self, name, title, entrants, **changes):
        """Processor time per request of (name, command) entrants; hand-written ones are the base."""
        if len(entrants) < 2:
            return None
        harness.say(f"{name}: {title}")
        runs = rounds.measure_all(entrants, self.setting(**changes))
        return self.add(name, title, "ns/request",
                        {who: [run["ns"] for run in found] for who, found in runs.items()}, runs)

    def compare_programs(self, name, unit, entrants, chosen=lambda title: True, count=None):
        """Figures of (name, command) programs that print {figure: value} as JSON, the `chosen` ones,
        each a comparison of those programs that have it. `count` rounds, else the common number."""
        for who, command in entrants:
            program = command.replace("{build}", str(self.build)).split()[0]
            if not shutil.which(program):
                self.skipped[f"{who} ({name})"] = f"{pathlib.Path(program).name} is not built"
        entrants = [(who, command) for who, command in entrants
                    if self.available(who) and f"{who} ({name})" not in self.skipped]
        found = {who: {} for who, _ in entrants}
        count = count or self.options.rounds
        for number in range(count):
            for who, command in random.sample(entrants, len(entrants)):
                harness.say(f"{name}: round {number + 1}/{count}: {who}")
                for figure, value in self.figures_of(who, command).items():
                    if chosen(figure):
                        found[who].setdefault(figure, []).append(value)
        titles = dict.fromkeys(title for figures in found.values() for title in figures)
        for title in titles:
            values = {who: figures[title] for who, figures in found.items() if title in figures}
            self.add(name, title, unit(title) if callable(unit) else unit, values)

    def figures_of(self, who, command):
        """Runs a program on all processors; returns the object that it prints."""
        filled = command.replace("{build}", str(self.build))
        ran = subprocess.run(["setarch", "-R", *filled.split(), "--json", "--repetitions", "1"],
                             capture_output=True, text=True, check=False)
        if ran.returncode:
            raise harness.Failure(f"{who}: `{filled}` ended with status {ran.returncode}: "
                                  f"{ran.stderr.strip()}")
        return {title: value["value"] if isinstance(value, dict) else value
                for title, value in json.loads(ran.stdout).items()}

    def add(self, name, title, unit, values, runs=None):
        """Adds a comparison of {server: [value per round]}; lower values are better."""
        middle = {who: statistics.median(found) for who, found in values.items()}
        hand = [who for who in values if who.startswith("hand")]
        base = min(hand, key=middle.get) if hand else None

        def against(who, other):
            bad = rounds.disturbed_pair(who, other, runs) if runs else ()
            return rounds.ratio_of(values[who], values[other], bad)

        comparison = {
            "workload": name, "setting": title, "unit": unit, "base": base, "values": values,
            "median": middle,
            "of_base": {who: against(who, base) for who in values} if base else {},
            "speed": {own: {who: against(own, who) for who in values if who != own}
                      for own in OWN if own in values}}
        self.comparisons.append(comparison)
        print(table(comparison), flush=True)
        return comparison


def number(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio_text(ratio):
    return "{:.3f} ({:.3f} .. {:.3f})".format(*ratio) if ratio else ""


def table(comparison):
    """One comparison as text."""
    header = ["", comparison["unit"]]
    if comparison["base"]:
        header.append(f"speed, {comparison['base']} = 1")
    header += [f"{own} against it" for own in comparison["speed"]]
    rows = []
    for who, value in sorted(comparison["median"].items(), key=lambda item: item[1]):
        row = [who, number(value)]
        if comparison["base"]:
            row.append(ratio_text(comparison["of_base"][who]))
        row += [ratio_text(ratios.get(who)) for ratios in comparison["speed"].values()]
        rows.append(row)
    return f"\n{comparison['workload']}: {comparison['setting']}\n{harness.table(header, rows)}"
