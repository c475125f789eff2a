"""The pictures that tools/bench draws from its comparisons; a picture without figures is left out."""

import svg
from suite import number

# Panels of the picture of ratios: (workload, beginning of the setting, title).
RATIOS = (
    ("echo", "64 B, 64 c", "echo, 64 bytes, 64 connections"),
    ("lines", "", "lines of 64 bytes, 16 in flight, each answered by its own write"),
    ("streaming", "", "512-byte messages, 64 in flight on 4 connections"),
    ("bulk", "", "messages of 1 MiB"),
    ("connect", "", "connect, one request, close"),
    ("udp", "flood", "datagrams, one of 32 answered"),
)


def draw(folder, comparisons, note):
    """Draws what there are figures for; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, picture in (("ratios", ratios), ("latency", latency), ("fairness", fairness),
                          ("memory", memory), ("connections", connections)):
        if drawing := picture(comparisons, note):
            drawing.save(folder / f"{name}.svg")
            drawn.append(folder / f"{name}.svg")
    return drawn


def of(comparisons, workload, beginning=""):
    return [comparison for comparison in comparisons if comparison["workload"] == workload
            and comparison["setting"].startswith(beginning)]


def ratios(comparisons, note):
    drawing = None
    for workload, beginning, title in RATIOS:
        for comparison in of(comparisons, workload, beginning)[:1]:
            if not comparison["of_base"]:
                continue
            drawing = drawing or svg.Drawing(
                "Speed in processor time per request; the best hand-written server is 1", note)
            rows = [(who, ratio[0], ratio[1:], f"{ratio[0]:.2f}") for who, ratio in sorted(
                comparison["of_base"].items(), key=lambda item: -item[1][0])]
            svg.bars(drawing, title, rows, mark=1)
    return drawing


def percentiles(comparisons, workload, title, note):
    found = of(comparisons, workload)
    if len(found) < 2:
        return None
    drawing = svg.Drawing(title, note)
    names = [who for who in found[0]["median"]
             if all(who in comparison["median"] for comparison in found)]
    svg.lines(drawing, [comparison["setting"] for comparison in found],
              {who: [comparison["median"][who] for comparison in found] for who in names},
              logarithmic=True)
    return drawing


def latency(comparisons, note):
    return percentiles(comparisons, "latency",
                       "Latency in microseconds at 20,000 messages a second by plan, 64 connections", note)


def fairness(comparisons, note):
    return percentiles(comparisons, "fairness",
                       "Latency in microseconds next to a flooder and messages that take 1 ms", note)


def memory(comparisons, note):
    for comparison in of(comparisons, "idle"):
        drawing = svg.Drawing("Memory of an idle connection in bytes, without the kernel's", note)
        middle = comparison["median"]
        rows = [(who, value, number(value)) for who, value in
                sorted(middle.items(), key=lambda item: item[1])]
        svg.dots(drawing, rows, svg.axis_of(middle.values()))
        return drawing
    return None


def connections(comparisons, note):
    found = of(comparisons, "connections")
    if len(found) < 2:
        return None
    drawing = svg.Drawing("Processor time of a request in nanoseconds, by the number of connections", note)
    svg.lines(drawing, [f"{int(comparison['setting'].split()[0]):,}" for comparison in found],
              {who: [comparison["median"][who] for comparison in found]
               for who in found[0]["median"]})
    return drawing
