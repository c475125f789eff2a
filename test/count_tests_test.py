#!/usr/bin/env python3
"""count_tests_test.py COUNT-TESTS: what tools/count-tests makes of programs that pass, fail, crash, hang and skip."""

import json
import subprocess
import sys
import tempfile

GOOD = "@case run\n@case begin a\n@case passed a\n@case begin b\n@case passed b\n"
failures = 0


def count(**test):
    """(passed, failed, text) of a log with one test."""
    entry = {"name": "weft / it", "stdout": "", "stderr": "", "result": "OK", "returncode": 0, "duration": 1.0, **test}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as log:
        log.write(json.dumps(entry) + "\n")
        log.flush()
        done = subprocess.run(["bash", "-c", 'exec "$@" 3>&1 1>&2', "_", sys.executable, "-B", sys.argv[1], log.name],
                              capture_output=True, text=True, check=False)
    passed, failed = done.stdout.split()
    return int(passed), int(failed), done.stderr


def expect(what, found, passed, failed, *texts):
    global failures
    if found[:2] != (passed, failed) or any(text not in found[2] for text in texts):
        failures += 1
        print(f"FAIL: {what}: found {found}, wanted {passed} passed, {failed} failed, with {texts}")


expect("a program that passes", count(stdout=GOOD), 2, 0)
expect("a failed case", count(stdout="@case run\n@case begin a\n@case failed a\n@case begin b\n@case passed b\n",
                              returncode=1, result="FAIL"), 1, 1, "FAILED it: a")
expect("a crash inside a case", count(stdout="@case run\n@case begin a\n@case passed a\n@case begin b\nlast words",
                                      returncode=-11, result="FAIL"), 1, 1, "FAILED it: b", "signal 11", "last words")
expect("an exit inside a case", count(stdout="@case run\n@case begin a\n"), 0, 1, "a (the program ended inside it)")
expect("a crash after the last case", count(stdout=GOOD, returncode=23, result="FAIL", stderr="leaks"), 2, 1,
       "ended with status 23 after its cases", "leaks")
expect("a hang", count(stdout="@case run\n@case begin a\n", returncode=-15, result="TIMEOUT"), 0, 1,
       "FAILED it: a", "time limit")
expect("a case that is stuck, and those behind it",
       count(stdout="@case run 4\n@case begin a\n@case passed a\n@case begin b\n", stderr="STUCK: it waits",
             returncode=86, result="FAIL"), 1, 3, "FAILED it: b (the program was stuck", "STUCK: it waits",
       "not run, since the program ended before (2 cases)")
expect("a part that is left out", count(stdout="@case run 1\n@case begin a\n@case left-out poll: no files\n"
                                        "@case passed a\n"), 1, 0, 'it: left out of "a": poll: no files')
expect("a program that runs nothing", count(stdout="@case run\n"), 0, 1, "no case ran")
expect("a skipped case", count(stdout=GOOD + "@case begin c\n@case skipped c\n"), 2, 0)
expect("a script that passes", count(), 1, 0)
expect("a script that fails", count(returncode=3, result="FAIL", stdout="why"), 0, 1, "status 3", "why")
expect("a script that skips", count(returncode=77, result="SKIP", stdout="no clang\n"), 0, 0, "skipped: no clang")
sys.exit(failures != 0)
