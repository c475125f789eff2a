"""What tools/bench runs once the packages are installed and everything is built."""

import argparse
import datetime
import json
import pathlib
import sys
import time

sys.dont_write_bytecode = True
import harness  # noqa: E402
import readme  # noqa: E402
import servers  # noqa: E402
import suite  # noqa: E402
import targets  # noqa: E402
import workloads  # noqa: E402

MINUTES = 15          # that the figures that decide may take in all, with their counts
RATIOS = 24           # comparisons of what decides that are timed in turns
TIMED_SHARE = 0.6     # of the minutes, for the first look at them; what is noisy then has what is left


def options_of(arguments):
    parser = argparse.ArgumentParser(prog="tools/bench", add_help=False)
    parser.add_argument("workloads", nargs="*")
    parser.add_argument("--build", type=pathlib.Path, required=True)
    parser.add_argument("--packages", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--decide", action="store_true")
    parser.add_argument("--counts", choices=("yes", "no", "only"), default="yes")
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=[])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--realtime", action="store_true")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--from-json", type=pathlib.Path)
    parser.add_argument("--write-readme", type=pathlib.Path)
    parser.add_argument("--check-readme", type=pathlib.Path)
    options = parser.parse_args(arguments)
    options.counts, options.counts_only = options.counts != "no", options.counts == "only"
    if unknown := set(options.workloads) - set(suite.WORKLOADS):
        raise harness.Failure(f"no workload {', '.join(sorted(unknown))}: there are {', '.join(suite.WORKLOADS)}")
    if unknown := set(options.peers) - {peer.name for peer in servers.PEERS}:
        raise harness.Failure(f"no peer {', '.join(sorted(unknown))}: "
                              f"there are {', '.join(peer.name for peer in servers.PEERS)}")
    options.seconds = options.seconds or (
        60 * options.minutes * TIMED_SHARE / RATIOS if options.decide else 12 if options.quick else 60)
    return options


def main():
    options = options_of(sys.argv[1:])
    if options.packages:
        print(*servers.packages(options.decide))
        return 0
    if options.list:
        print(harness.table(["workload", ""], [[name, text] for name, (_, text)
                                               in suite.WORKLOADS.items()], words=2))
        return 0
    if path := options.write_readme or options.check_readme:
        return readme.main(path, check=bool(options.check_readme))
    return run(options)


def run(options):
    written = None
    if options.from_json:
        written = json.loads(options.from_json.read_text())
        for comparison in written["comparisons"]:
            print(suite.table(comparison))
    else:
        written = measure(options)
    targets.report(written["comparisons"])
    for kind in ("skipped", "failed"):
        for name, reason in written[kind].items():
            print(f"{kind}: {name}: {reason}")
    if options.json:
        save(options.json, written, options.fresh)
    return 1 if written["failed"] else 0


def save(path, written, fresh):
    """Writes the figures; those of earlier runs of other settings stay, unless the file is to start afresh."""
    if path.exists() and not fresh:
        old = json.loads(path.read_text())
        written = {**written, "comparisons": suite.merged(old["comparisons"], written["comparisons"])}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, indent=1) + "\n")
    harness.say(f"written: {path}")


def measure(options):
    """Runs the workloads; returns all that there is to write down."""
    if options.realtime:
        harness.use_realtime()
    end = time.monotonic() + 60 * options.minutes
    current = suite.Suite(options)
    if not options.decide:
        for name, reason in current.skipped.items():
            harness.say(f"skipped: {name}: {reason}")
    failed = {}
    for name in options.workloads or (workloads.DECIDING if options.decide else suite.WORKLOADS):
        try:
            suite.WORKLOADS[name][0](current)
        except harness.Failure as failure:  # the others are still worth something
            harness.say(f"{name}: {failure}")
            failed[name] = str(failure)
    if options.decide and not options.counts_only:
        current.settle_noisy(end - time.monotonic())
    skipped = {name: reason for name, reason in current.skipped.items()
               if not options.decide or name not in {peer.name for peer in servers.PEERS}
               or name in servers.DECIDING_PEERS}
    return {"machine": harness.machine(), "date": datetime.date.today().isoformat(),
            "versions": servers.versions(), "skipped": skipped, "failed": failed,
            "comparisons": current.comparisons}


harness.run_main(main)
