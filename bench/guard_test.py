#!/usr/bin/env python3
"""guard_test.py BUILD: that bench/guard fails when a request costs more, says what and how to go on,
and passes when it costs what it did. The server that wastes something is bench-services."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

GUARD = pathlib.Path(__file__).with_name("guard")
COMMITTED = GUARD.with_name("guard.json")
BUILD = pathlib.Path(sys.argv.pop(1))
SERVER = "echo={build}/bench/bench-services --port {port}"


def guard(*arguments):
    """(exit status, everything that it said)"""
    ran = subprocess.run([sys.executable, "-B", GUARD, "--build", BUILD, *arguments],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return ran.returncode, ran.stdout


class GuardTest(unittest.TestCase):
    def assert_fails(self, outcome, *words):
        status, said = outcome
        self.assertEqual(status, 1, said)
        for word in (*words, "bench/guard --build DIR --update"):
            self.assertIn(word, said)

    def test_a_server_that_wastes_nothing_passes(self):
        for what in ("calls", "heap"):
            status, said = guard("--only", f"echo {what}", "--server", SERVER)
            self.assertEqual(status, 0, said)

    def test_an_allocation_for_each_request_fails(self):
        self.assert_fails(
            guard("--only", "echo heap", "--server", SERVER + " --waste allocation"),
            "echo heap: allocations / request: 1.000, was 0.000")

    def test_a_system_call_for_each_request_fails(self):
        self.assert_fails(guard("--only", "echo calls", "--server", SERVER + " --waste syscall"),
                          "echo calls: getppid / request: 1.000, was 0.000")

    def test_three_percent_more_instructions_fail_and_one_does_not(self):
        with tempfile.TemporaryDirectory() as folder:
            figures = pathlib.Path(folder, "figures.json")
            chosen = ("--only", "engine call_soon", "--figures", figures)
            self.assertEqual(guard(*chosen, "--update")[0], 0)
            written = json.loads(figures.read_text())
            counted = written["figures"]["engine call_soon"]["instructions"]
            for share, fails in ((1.03, True), (1.01, False)):
                lower = {"engine call_soon": {"instructions": counted / share}}
                figures.write_text(json.dumps({**written, "figures": lower}))
                if fails:
                    self.assert_fails(guard(*chosen), "engine call_soon: instructions")
                else:
                    self.assertEqual(guard(*chosen)[0], 0)

    def test_instructions_of_another_compiler_are_shown_and_not_judged(self):
        with tempfile.TemporaryDirectory() as folder:
            figures = pathlib.Path(folder, "figures.json")
            figures.write_text(json.dumps({"toolchain": "compiler 1", "figures": {}}))
            status, said = guard("--only", "engine call_soon", "--figures", figures)
            self.assertEqual(status, 0, said)
            self.assertIn("the figures are of compiler 1", said)

    def test_an_update_keeps_the_figures_that_it_did_not_count(self):
        with tempfile.TemporaryDirectory() as folder:
            figures = pathlib.Path(folder, "figures.json")
            figures.write_text(COMMITTED.read_text())
            self.assertEqual(guard("--only", "engine post", "--figures", figures, "--update")[0], 0)
            now, before = (json.loads(path.read_text()) for path in (figures, COMMITTED))
            self.assertEqual(now["figures"].keys(), before["figures"].keys())


if lacking := [tool for tool in ("strace", "valgrind") if not shutil.which(tool)]:
    print(f"{' and '.join(lacking)} not found")
    sys.exit(77)
unittest.main()
