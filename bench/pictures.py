"""The pictures in docs/bench, from the comparisons of tools/bench. What is noisy is not drawn, and a picture without
figures is left out."""

import svg
from suite import number

NAMES = {"callback": "weft", "coroutine": "weft, coroutines", "asio-callback": "Asio", "asio-await": "Asio, co_await",
         "asio-stackful": "Asio, stackful", "go": "Go", "state-threads": "State Threads", "kj": "KJ",
         "boost-fiber": "Boost.Fiber"}
# Panels of the picture of ratios: (workload, beginning of the setting, title).
RATIOS = (
    ("echo", "64 B, 64 c", "echo, 64 bytes, 64 connections"),
    ("echo", "64 B, 512 c", "echo, 64 bytes, 512 connections"),
    ("lines", "", "lines of 64 bytes, 16 in flight, each answered by its own write"),
    ("echo", "64 KiB, 64 c", "echo, 64 KiB, 64 connections"),
    ("connect", "", "connect, one request, close"),
    ("flood", "", "datagrams, the last of 32 answered"),
)
LINED = ("callback", "coroutine", "libuv", "libevent", "asio-callback", "go")  # as many lines as one can follow
FEWEST = 2  # servers that make a picture


def name_of(server):
    return NAMES.get(server, server)


def of(comparisons, workload, beginning=""):
    return [comparison for comparison in comparisons if comparison["workload"] == workload
            and comparison["setting"].startswith(beginning)]


def ratios_of(comparison):
    """[(name, ratio, low, high)] of what is no hand-written loop and not noisy."""
    return [(name_of(who), figure["ratio"], *figure["interval"]) for who, figure in comparison["servers"].items()
            if "ratio" in figure and not figure["noisy"] and not who.startswith("hand")]


def draw(comparisons, note):
    """{file name: its text} of the pictures that there are figures for."""
    found = {}
    for name, picture in (("ratios", ratios), ("sizes", sizes), ("connections", connections),
                          ("fairness", fairness), ("memory", memory)):
        if drawing := picture(comparisons, note):
            found[f"{name}.svg"] = drawing.drawn()
    return found


def ratios(comparisons, note):
    drawing = None
    for workload, beginning, title in RATIOS:
        for comparison in of(comparisons, workload, beginning)[:1]:
            if len(rows := ratios_of(comparison)) < FEWEST:
                continue
            drawing = drawing or svg.Drawing("Speed by processor time per request; the best by hand is 1", note)
            svg.bars(drawing, title, rows, "{:.2f}".format, True, mark=1)
    return drawing


def series(found, column_of):
    """(columns, {name: {column: (value, low, high)}}) of comparisons that differ in one thing."""
    columns = [column_of(comparison) for comparison in found]
    rows = {}
    for column, comparison in zip(columns, found):
        for name, *values in ratios_of(comparison):
            if name in map(name_of, LINED):
                rows.setdefault(name, {})[column] = values
    # A line of less than half of the points says nothing.
    return columns, {name: row for name, row in rows.items() if 2 * len(row) > len(columns)}


def sizes(comparisons, note):
    found = [comparison for comparison in of(comparisons, "echo") if comparison["setting"].endswith(", 64 connections")]
    columns, rows = series(found, lambda comparison: comparison["setting"].partition(",")[0])
    if len(columns) < 3 or not rows:
        return None
    drawing = svg.Drawing("Speed of an echo by size of the message, 64 connections; the best by hand is 1", note)
    svg.lines(drawing, columns, rows, mark=1)
    return drawing


def connections(comparisons, note):
    found = of(comparisons, "connections")
    columns, rows = series(found, lambda comparison: f"{int(comparison['setting'].split()[0]):,}")
    if len(columns) < 3 or not rows:
        return None
    drawing = svg.Drawing("Speed of an echo by number of connections, 64 bytes; the best by hand is 1", note)
    svg.lines(drawing, columns, rows, mark=1)
    return drawing


def fairness(comparisons, note):
    drawing = None
    for comparison in of(comparisons, "fairness"):
        rows = [(name_of(who), *(value / 1000 for value in (figure["value"], *figure["interval"])))
                for who, figure in comparison["servers"].items() if not figure["noisy"]]
        if len(rows) < FEWEST:
            continue
        drawing = drawing or svg.Drawing("What 32 connections wait beside one that floods and one of 1 ms a message",
                                         note)
        svg.bars(drawing, f"{comparison['setting']}, in milliseconds", rows, number, False)
    return drawing


def memory(comparisons, note):
    for comparison in of(comparisons, "idle"):
        drawing = svg.Drawing("Memory of an idle connection in bytes, without the kernel's", note)
        rows = [(name_of(who), figure["value"], number(figure["value"])) for who, figure in
                sorted(comparison["servers"].items(), key=lambda item: item[1]["value"])]
        if len(rows) < FEWEST:
            return None
        svg.dots(drawing, rows)
        return drawing
    return None
