"""README's one table of figures and its pictures, made from docs/bench/figures.json. What is noisy is not in it."""

import json
import re

import harness
import pictures
import targets
from suite import number

README = harness.ROOT / "README.md"
FOLDER = harness.ROOT / "docs" / "bench"
FIGURES = FOLDER / "figures.json"
BEGIN, END = "<!-- figures: made by tools/bench --write-readme -->", "<!-- end of figures -->"
COLUMNS = ("callback", "coroutine", "libuv", "libevent", "libev", "asio-callback", "asio-await", "asio-stackful",
           "tokio", "go", "state-threads", "kj", "boost-fiber", "uvloop", "asyncio")
ORDER = ("echo", "lines", "connect", "flood", "udp", "timeouts", "memcached", "redis", "http", "share", "fairness",
         "idle", "operations", "coroutines", "million")
TITLES = {"fairness": "wait of 32 connections beside a flooder and one of 1 ms a message, ", "idle": "",
          "operations": "", "coroutines": "", "million": "", "share": "bounded share of a turn, "}
PICTURES = {"ratios": "Speed relative to the best hand-written loop", "sizes": "Speed by size of the message",
            "connections": "Speed by number of connections",
            "fairness": "What others wait beside a flooder and messages of 1 ms",
            "memory": "Memory of an idle connection"}
LESS_THAN_NOISE = "–"


def title_of(comparison):
    workload = comparison["workload"]
    words = TITLES.get(workload, workload + ", ") + comparison["setting"]
    return words + (f", {comparison['unit']}" if not comparison.get("base") else "")


def duration(nanoseconds):
    return f"{number(nanoseconds / 1000)} µs" if nanoseconds >= 1000 else f"{number(nanoseconds)} ns"


def base_of(comparison):
    """The column of what the others are compared with."""
    base = comparison.get("base")
    if not base:
        figure = comparison["servers"].get("by hand") or comparison["servers"].get("by hand, level")
        return value_of(figure) if figure else ""
    if "value" not in comparison["servers"].get(base, {}):
        return ""
    value = duration(comparison["servers"][base]["value"])
    return value if base.startswith("hand") else f"{base}: {value}"


def value_of(figure):
    return LESS_THAN_NOISE if figure["noisy"] else number(figure["value"])


def cell(comparison, budget, who):
    figure = comparison["servers"].get(who, {})
    if "value" not in figure:
        return ""
    if not comparison.get("base"):
        return value_of(figure)
    if who == comparison["base"]:
        return "1"
    if figure["noisy"]:
        return LESS_THAN_NOISE
    if budget and budget.kind == "time":
        return f"{1 / figure['ratio']:.2f}"
    own = who in targets.STYLES
    low, high = figure["interval"]
    return f"{figure['ratio']:.3f} ± {(high - low) / 2:.3f}" if own else f"{figure['ratio']:.2f}"


def counted(comparison, key):
    """Three counts: of the base, of callbacks and of coroutines."""
    found = [comparison["servers"].get(who, {}).get("counts", {}).get(key)
             for who in (comparison.get("base"), "callback", "coroutine")]
    if not any(value is not None for value in found):
        return ""
    return " / ".join("" if value is None else f"{value:,.0f}" if value >= 10 else f"{max(value, 0.0) or 0.0:.1f}" for value in found)


def table(comparisons):
    """The table, in Markdown; columns and rows without anything are left out."""
    rank = {workload: place for place, workload in enumerate(ORDER)}
    shown = sorted((comparison for comparison in comparisons if comparison["workload"] in rank),
                   key=lambda comparison: rank[comparison["workload"]])
    header = ["", "aimed at", "base", *(pictures.name_of(who) for who in COLUMNS), "instructions", "cache misses"]
    rows = []
    for comparison in shown:
        budget = targets.budget_of(comparison)
        cells = [cell(comparison, budget, who) for who in COLUMNS]
        counts = [counted(comparison, key) for key in ("instructions", "D1 misses")]
        if any(cells + counts):
            time = ", time" if budget and budget.kind == "time" else ""
            rows.append([title_of(comparison) + time, budget.aimed() if budget else "", base_of(comparison), *cells,
                         *counts])
    kept = [index for index in range(len(header)) if index == 0 or any(row[index] for row in rows)]
    lines = [[header[index] for index in kept], ["---"] * len(kept), *([row[index] for index in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def note_of(written):
    machine, versions = written["machine"], written["versions"]
    names = {"libuv1-dev": "libuv", "libevent-dev": "libevent", "libasio-dev": "Asio", "memcached": "memcached",
             "redis-server": "redis"}
    peers = ", ".join(f"{name} {re.sub(r'^[0-9]+:|[-+].*', '', versions[package])}"
                      for package, name in names.items() if package in versions)
    return (f"{machine['cpus']} processors ({machine['processor']}), Linux {machine['kernel'].partition('-')[0]}, "
            f"g++ {versions['c++']}, {written['date']}" + (f"; {peers}" if peers else ""))


def block(written, drawn):
    """What stands between the markers."""
    links = "\n\n".join(f"![{words}](docs/bench/{name}.svg)" for name, words in PICTURES.items()
                        if f"{name}.svg" in drawn)
    return (f"{BEGIN}\n\n{table(written['comparisons'])}\n\n{note_of(written)}.\n"
            + (f"\n{links}\n" if links else "") + f"\n{END}")


def made(written):
    """(README's whole text, {picture: its text}) as they follow from the figures."""
    drawn = pictures.draw(written["comparisons"], note_of(written))
    text = README.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise harness.Failure(f"README.md has not one `{BEGIN}` and one `{END}`")
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: block(written, drawn), text), drawn


def differences(written):
    """What in README and in docs/bench does not follow from the figures."""
    text, drawn = made(written)
    found = ["README.md"] if text != README.read_text() else []
    there = {path.name: path.read_text() for path in FOLDER.glob("*.svg")}
    return found + [f"docs/bench/{name}" for name in sorted({*there, *drawn}) if there.get(name) != drawn.get(name)]


def main(path, check):
    written = json.loads(path.read_text())
    if check:
        for name in (found := differences(written)):
            print(f"{name} is not what {path} gives: tools/bench --write-readme {path}")
        return 1 if found else 0
    text, drawn = made(written)
    README.write_text(text)
    FOLDER.mkdir(parents=True, exist_ok=True)
    if path.resolve() != FIGURES.resolve():
        FIGURES.write_text(path.read_text())
    for old in FOLDER.glob("*.svg"):
        old.unlink()
    for name, picture in drawn.items():
        (FOLDER / name).write_text(picture)
    harness.say(f"written: README.md, docs/bench/figures.json, {', '.join(drawn) or 'no pictures'}")
    return 0
