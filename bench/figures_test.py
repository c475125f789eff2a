#!/usr/bin/env python3
"""figures_test.py: README's table and pictures are what docs/bench/figures.json gives; and what makes them leaves out
what is noisy, joins what an interval does not tell apart, and writes no text over text."""

import json
import random
import re
import sys
import unittest

sys.dont_write_bytecode = True
import pictures  # noqa: E402
import readme  # noqa: E402
import suite  # noqa: E402
import svg  # noqa: E402
import targets  # noqa: E402
import turns  # noqa: E402

NOTE = "4 processors (Some Name of a Processor That Is Rather Long, at 2.00GHz), Linux 6.18, g++ 12.2, 2026-11-29; " \
       "libuv 1.44.2, libevent 2.1.12, Asio 1.22.1, memcached 1.6.18, redis 7.0.15"


def figure(ratio, half=0.01, value=1000.0):
    return {"value": value / ratio, "ratio": ratio, "interval": [ratio - half, ratio + half],
            "noisy": 2 * half > turns.WIDTH * ratio}


def comparison(setting, servers, workload="echo", base="hand edge/recv"):
    return {"workload": workload, "setting": setting, "unit": "ns", "base": base,
            "servers": {base: {"value": 1000.0}, **servers}}


def everything(seed):
    """Figures of all workloads that are drawn, with all peers, as chance has it."""
    chance = random.Random(seed)
    names = readme.COLUMNS

    def servers(low=0.1, high=1.1):
        ratios = {name: chance.uniform(low, high) for name in names}
        return {name: figure(ratio, ratio * chance.uniform(0.001, 0.017)) for name, ratio in ratios.items()}

    def values(low, high):
        found = {}
        for name in ("by hand, level", *names):
            value = low * (high / low) ** chance.random()
            found[name] = {"value": value, "interval": [value * 0.99, value * 1.01], "noisy": chance.random() < 0.1}
        return found

    found = [comparison(f"{size}, {count} connections", servers())
             for size in ("64 B", "1 KiB", "4 KiB", "16 KiB", "64 KiB", "1 MiB") for count in (16, 64)]
    found += [comparison("64 B, 512 connections", servers(0.97, 1.0)), comparison("64 B", servers(), "lines"),
              comparison("64 B, 64 at a time", servers(), "connect"), comparison("64 B", servers(), "flood")]
    found += [comparison(f"{count} connections", servers(), "connections") for count in (1, 8, 64, 512, 4096, 15000)]
    for setting in ("the median", "the 99th percentile"):
        found.append({"workload": "fairness", "setting": setting, "unit": "us", "servers": values(100, 20000)})
    found.append({"workload": "idle", "setting": "memory of an idle connection", "unit": "bytes",
                  "servers": values(30, 10000)})
    return found


class Committed(unittest.TestCase):
    def test_readme_and_its_pictures_are_what_the_figures_give(self):
        written = json.loads(readme.FIGURES.read_text())
        self.assertEqual(readme.differences(written), [], "tools/bench --write-readme docs/bench/figures.json")

    def test_readme_shows_each_picture_and_no_other(self):
        shown = set(re.findall(r"docs/bench/(\w+\.svg)", readme.README.read_text()))
        self.assertEqual(shown, {path.name for path in readme.FOLDER.glob("*.svg")})


class Table(unittest.TestCase):
    def test_what_is_noisy_is_a_dash_and_not_a_number(self):
        text = readme.table([comparison("64 B, 64 connections", {"callback": figure(0.971, 0.2),
                                                                 "coroutine": figure(0.962)})])
        self.assertNotIn("0.971", text)
        self.assertIn("| – | 0.962 ± 0.010 |", text)
        self.assertIn("≥ 0.98, 0.97", text)

    def test_times_of_services_are_shown_as_they_are_aimed_at(self):
        text = readme.table([comparison("GET of 100 KB, 16 connections", {"callback": figure(1 / 1.04, 0.001)},
                                        "memcached", "memcached")])
        self.assertIn("| ≤ 1.05 | memcached: 1.00 µs | 1.04 |", text)

    def test_counts_of_a_later_run_go_beside_the_times_and_replace_none(self):
        times = [comparison("64 B", {"callback": figure(0.99)})]
        counts = [{**comparison("64 B", {"callback": {"counts": {"instructions": 257}}}),
                   "base": "hand edge/recv"}]
        counts[0]["servers"]["hand edge/recv"] = {"counts": {"instructions": 72}}
        merged, = suite.merged(times, counts)
        self.assertEqual(merged["servers"]["callback"]["value"], times[0]["servers"]["callback"]["value"])
        self.assertEqual(readme.counted(merged, "instructions"), "72 / 257 / ")
        again, = suite.merged([merged], [comparison("64 B", {"callback": figure(0.95)})])
        self.assertEqual(again["servers"]["callback"]["counts"], {"instructions": 257})
        self.assertAlmostEqual(again["servers"]["callback"]["ratio"], 0.95)


class Pictures(unittest.TestCase):
    def test_no_text_lies_over_text(self):
        for seed in range(30):
            drawn = pictures.draw(everything(seed), NOTE)  # refuses it
            self.assertEqual(len(drawn), 5, drawn.keys())

    def test_what_an_interval_does_not_tell_apart_shares_a_bar(self):
        groups = svg.told_apart([("a", 0.98, 0.97, 0.99), ("b", 0.985, 0.975, 0.995), ("c", 0.9, 0.89, 0.91)])
        self.assertEqual([group["names"] for group in groups], [["c"], ["a", "b"]])

    def test_what_is_noisy_is_not_drawn(self):
        found = comparison("64 B, 64 connections", {"callback": figure(0.99), "coroutine": figure(0.9),
                                                    "go": figure(0.7, 0.1)})
        drawn = pictures.draw([found], NOTE)["ratios.svg"]
        self.assertIn(">weft<", drawn)
        self.assertNotIn(">Go<", drawn)

    def test_text_over_text_is_refused(self):
        drawing = svg.Drawing("title")
        drawing.text(16, 30, "over it")
        drawing.height = 60
        self.assertRaises(ValueError, drawing.drawn)


class Method(unittest.TestCase):
    def test_the_interval_holds_the_true_ratio_nearly_always(self):
        for count in (6, 9, 12, 20):
            chance, held = random.Random(count), 0
            for _ in range(1000):
                # Every tenth is something else altogether.
                values = [1.25 * chance.lognormvariate(0, 0.02) * chance.choice([1] * 18 + [0.5, 2])
                          for _ in range(count)]
                _, low, high = turns.median_of(values)
                held += low <= 1.25 <= high
            self.assertGreater(held, 940, count)

    def test_a_generation_that_is_twice_as_dear_does_not_widen_the_interval(self):
        _, low, high = turns.median_of([1.0, 1.01, 0.99, 1.0, 1.01, 2.1, 1.0, 0.99, 1.0])
        self.assertLess(high - low, 0.03)

    def test_turns_that_others_had_a_part_in_are_left_out_if_half_remain(self):
        calm, busy = {"ns": 1, "lost": 0.01}, {"ns": 9, "lost": 0.2}
        self.assertEqual(turns.undisturbed([calm, busy, calm], [calm, calm, calm], True), ([(calm, calm)] * 2, True))
        self.assertFalse(turns.undisturbed([busy, busy, calm], [calm] * 3, True)[1])

    def test_a_target_is_missed_only_by_an_interval_that_lies_below_as_a_whole(self):
        budget = targets.Budget("echo", "*", 0.98, 0.97)
        for ratio, half, verdict in ((0.95, 0.01, "missed"), (0.975, 0.01, "missed, nearly"),
                                     (0.985, 0.01, "met, nearly"), (1.0, 0.01, "met"), (1.1, 0.1, "met, noisy"),
                                     (1.0, 0.1, "noisy")):
            self.assertEqual(budget.verdict("callback", figure(ratio, half)), verdict, ratio)


if __name__ == "__main__":
    unittest.main()
