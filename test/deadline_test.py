#!/usr/bin/env python3
"""deadline_test.py COUNT-TESTS REACTOR-TESTS [COROUTINE-TESTS]: a case that does not end says where it waits, and counts."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys

failures = 0


def load(path):
    loader = importlib.machinery.SourceFileLoader("count_tests", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("count_tests", loader))
    loader.exec_module(module)
    return module


def stuck(program, case, *texts):
    """Runs one case that hangs and another one behind it."""
    global failures
    environment = dict(os.environ, WEFT_CASE_LOG="1", WEFT_CASE_DEADLINE="1")
    done = subprocess.run([program, case + ",A case that turns for ever", "--order", "decl"], env=environment,
                          capture_output=True, text=True, timeout=200, check=False)
    test = {"result": "FAIL", "returncode": done.returncode, "stdout": done.stdout, "stderr": done.stderr}
    passed, failed, _, _ = counting.count(test)
    text = done.stdout + done.stderr
    missing = [wanted for wanted in ("STUCK: \"" + case, *texts) if wanted not in text]
    first = failed[0] if failed else ""
    if done.returncode != counting.STUCK or passed != 0 or not first.startswith(case) or missing:
        failures += 1
        print(f"FAIL: {case}: status {done.returncode}, {passed} passed, failed {failed}, without {missing}:\n{text}")
    return failed


counting = load(sys.argv[1])
behind = stuck(sys.argv[2], "A case that waits for ever", "kernel: epoll", "its loop has", "this thread is here",
               "LoopCore::run_turns")
if len(behind) != 2 or "not run" not in behind[1]:
    failures += 1
    print(f"FAIL: the case behind the one that is stuck does not count: {behind}")
stuck(sys.argv[2], "A case that turns for ever", "kernel: not said", "this thread is here")
if len(sys.argv) > 3:
    stuck(sys.argv[3], "A case whose coroutines wait for ever", "task waiter", "waits for")
sys.exit(failures != 0)
