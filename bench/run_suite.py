"""What tools/bench runs once the packages are installed and everything is built."""

import argparse
import json
import pathlib
import sys

sys.dont_write_bytecode = True
import harness  # noqa: E402
import pictures  # noqa: E402
import servers  # noqa: E402
import suite  # noqa: E402
import targets  # noqa: E402
import workloads  # noqa: E402,F401


def main():
    parser = argparse.ArgumentParser(prog="tools/bench", add_help=False)
    parser.add_argument("workloads", nargs="*")
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--packages", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=[])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--svg", type=pathlib.Path)
    parser.add_argument("--from-json", type=pathlib.Path)
    options = parser.parse_args()
    if options.packages:
        print(*servers.packages())
        return 0
    if options.list:
        print(harness.table(["workload", ""], [[name, text] for name, (_, text)
                                               in suite.WORKLOADS.items()], words=2))
        return 0
    if unknown := set(options.workloads) - set(suite.WORKLOADS):
        raise harness.Failure(f"no workload {', '.join(sorted(unknown))}: "
                              f"there are {', '.join(suite.WORKLOADS)}")
    if unknown := set(options.peers) - set(servers.BY_NAME):
        raise harness.Failure(f"no peer {', '.join(sorted(unknown))}: "
                              f"there are {', '.join(servers.BY_NAME)}")
    options.rounds = options.rounds or (3 if options.quick else 9)
    options.seconds = options.seconds or (0.3 if options.quick else 1.5)
    return run(options)


def run(options):
    if options.from_json:
        written = json.loads(options.from_json.read_text())
        for comparison in written["comparisons"]:
            print(suite.table(comparison))
    else:
        written = measure(options)
    written["missed"] = targets.report(written["comparisons"])
    for kind in ("skipped", "failed"):
        for name, reason in written[kind].items():
            print(f"{kind}: {name}: {reason}")
    if options.json:
        options.json.write_text(json.dumps(written, indent=1) + "\n")
    if options.svg:
        machine = written["machine"]
        note = (f"{machine['processor']}, {machine['cpus']} processors, Linux {machine['kernel']}, "
                f"median of {written['rounds']} rounds")
        for path in pictures.draw(options.svg, written["comparisons"], note):
            harness.say(f"drawn: {path}")
    return 1 if written["failed"] else 0


def measure(options):
    """Runs the workloads; returns all that there is to write down."""
    current = suite.Suite(options)
    for name, reason in current.skipped.items():
        harness.say(f"skipped: {name}: {reason}")
    failed = {}
    for name in options.workloads or suite.WORKLOADS:
        try:
            suite.WORKLOADS[name][0](current)
        except harness.Failure as failure:  # the others are still worth something
            harness.say(f"{name}: {failure}")
            failed[name] = str(failure)
    return {"machine": harness.machine(), "versions": servers.versions(),
            "rounds": options.rounds, "seconds": options.seconds, "skipped": current.skipped,
            "failed": failed, "comparisons": current.comparisons}


harness.run_main(main)
