"""Drawing charts as SVG: text that reads on light and on dark pages, and no more than these charts
need."""

import math
from xml.sax.saxutils import escape

WIDTH = 760
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.whisker { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .quiet { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .whisker { stroke: #f0f6fc }
}"""
OWN = {"weft": "#2f81f7", "weft-coro": "#8957e5", "weft-timeouts": "#8957e5"}
HAND, PEER = "#6e7781", "#a8b3bf"
LINES = ("#d29922", "#2da44e", "#e5534b", "#1b9aaa", "#bf5af2", "#b87333", "#768390", "#d6409f",
         "#7ca32f", "#5b8def", "#a0522d", "#009688")


class Drawing:
    """Shapes and text, which end up in one file."""

    def __init__(self, title, note=""):
        self.parts, self.height = [], 56 if note else 40
        self.text(16, 24, title, "title")
        if note:
            self.text(16, 42, note, "quiet")

    def text(self, x, y, words, kind="", anchor="start", color=None):
        style = f' style="fill:{color}"' if color else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" '
                          f'text-anchor="{anchor}"{style}>{escape(words)}</text>')

    def bar(self, x, y, width, height, color):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" '
                          f'height="{height:.1f}" rx="2" fill="{color}"/>')

    def line(self, points, color=None, kind=None):
        look = f'class="{kind}"' if kind else f'stroke="{color}" stroke-width="2"'
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" {look}/>')

    def dot(self, x, y, color, radius=3):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{color}"/>')

    def save(self, path):
        path.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:.0f}" '
            f'width="{WIDTH}" height="{self.height:.0f}">\n<style>{STYLE}\n</style>\n'
            + "\n".join(self.parts) + "\n</svg>\n")


def color_of(name):
    return OWN.get(name, HAND if name.startswith("hand") else PEER)


def bars(drawing, title, rows, mark=None):
    """A panel of horizontal bars: rows of (name, value, (low, high) or None, label)."""
    left, right, step = 130, WIDTH - 90, 18
    top = drawing.height + 18
    most = max(max(value, span[1] if span else 0) for _, value, span, _ in rows)
    scale = (right - left) / max(most, mark or 0)
    drawing.text(16, top, title, "quiet")
    top += 8
    if mark:
        drawing.line([(left + mark * scale, top), (left + mark * scale, top + step * len(rows))],
                     kind="grid")
    for number, (name, value, span, label) in enumerate(rows):
        y = top + number * step
        drawing.text(left - 8, y + 13, name, anchor="end")
        drawing.bar(left, y + 3, value * scale, step - 6, color_of(name))
        if span:
            drawing.line([(left + end * scale, y + step / 2) for end in span], kind="whisker")
        end = max(value, span[1] if span else 0)
        drawing.text(left + end * scale + 6, y + 13, label, "quiet")
    drawing.height = top + step * len(rows) + 12


def dots(drawing, rows, ticks):
    """Values of very different sizes: a dot for each on a logarithmic axis."""
    left, right, step = 130, WIDTH - 90, 18
    top = drawing.height + 6

    def across(value):
        low, high = math.log(ticks[0][0]), math.log(ticks[-1][0])
        return left + (math.log(value) - low) / (high - low) * (right - left)

    bottom = top + step * len(rows)
    for value, label in ticks:
        drawing.line([(across(value), top), (across(value), bottom)], kind="grid")
        drawing.text(across(value), bottom + 16, label, "quiet", "middle")
    for number, (name, value, label) in enumerate(rows):
        y = top + number * step + step / 2
        drawing.text(left - 8, y + 4, name, anchor="end")
        drawing.dot(across(value), y, color_of(name), 5)
        drawing.text(across(value) + 10, y + 4, label, "quiet")
    drawing.height = bottom + 28


def axis_of(values):
    """Round values for a logarithmic axis around `values`: [(value, label)]"""
    rounded = [digit * 10 ** power for power in range(-1, 12) for digit in (1, 2, 5)]
    low = max(value for value in rounded if value <= min(values))
    high = min(value for value in rounded if value >= max(values) and value > low)
    return [(value, f"{value:,g}") for value in rounded if low <= value <= high]


def lines(drawing, columns, series, logarithmic=False):
    """Lines over named columns: series of {name: [value per column]}, named at their right ends."""
    left, right, height = 70, WIDTH - 130, 300
    top, values = drawing.height + 8, [value for row in series.values() for value in row]
    if logarithmic:
        ticks = axis_of(values)
    else:
        step = 10 ** math.floor(math.log10(max(values)))
        step = step / 2 if max(values) < 3 * step else step
        ticks = [(step * n, f"{step * n:,.0f}") for n in range(math.ceil(max(values) / step) + 1)]
    turn = math.log if logarithmic else float
    low, high = turn(ticks[0][0]), turn(ticks[-1][0])

    def up(value):
        return top + height - (turn(value) - low) / (high - low) * height

    def across(column):
        return left + 20 + column * (right - left - 40) / max(1, len(columns) - 1)

    for value, label in ticks:
        drawing.line([(left, up(value)), (right, up(value))], kind="grid")
        drawing.text(left - 8, up(value) + 4, label, "quiet", "end")
    for column, label in enumerate(columns):
        drawing.text(across(column), top + height + 22, label, "quiet", "middle")
    ends, colors = [], iter(LINES)
    # What matters most is drawn last, above the others.
    for name in sorted(series, key=lambda name: (name in OWN, name.startswith("hand"))):
        color = OWN.get(name) or (HAND if name.startswith("hand") else next(colors, PEER))
        points = [(across(column), up(value)) for column, value in enumerate(series[name])]
        drawing.line(points, color)
        for point in points:
            drawing.dot(*point, color)
        ends.append([points[-1][1], name, color])
    place(ends)
    for y, name, color in ends:
        drawing.text(right - 8, y + 4, name, color=color)
    drawing.height = top + height + 34


def place(ends, room=15):
    """Moves labels apart that would cover each other, each as little as it takes."""
    ends.sort()
    for _ in range(200):
        for above, below in zip(ends, ends[1:]):
            overlap = room - (below[0] - above[0])
            if overlap > 0:
                above[0] -= overlap / 2
                below[0] += overlap / 2
