"""Drawing charts as SVG: text that reads on light and on dark pages, never over other text, and no more than these
charts need."""

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
OWN = {"weft": "#2f81f7", "weft, coroutines": "#8957e5"}
HAND, PEER = "#6e7781", "#a8b3bf"
LINES = ("#d29922", "#2da44e", "#e5534b", "#1b9aaa", "#bf5af2", "#b87333", "#768390", "#d6409f",
         "#7ca32f", "#5b8def", "#a0522d", "#009688")
LETTER, LINE = 6.6, 15  # pixels that a letter takes at most on average, and a line of text
LABEL = 28              # letters of a name, at most, before it goes on in the next line


class Drawing:
    """Shapes and text, which end up in one file."""

    def __init__(self, title, note=""):
        self.parts, self.boxes, self.height = [], [], 40
        self.text(16, 24, title, "title")
        for line in wrapped(note, int((WIDTH - 32) / LETTER)):
            self.text(16, self.height + 2, line, "quiet")
            self.height += LINE

    def text(self, x, y, words, kind="", anchor="start", color=None):
        width = LETTER * len(words) * (1.25 if kind == "title" else 1)
        left = x - {"start": 0, "middle": width / 2, "end": width}[anchor]
        self.boxes.append((left, y - 9, left + width, y + 3, words))
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

    def collisions(self):
        """Pairs of texts that lie over each other, and texts that leave the picture."""
        found = [(a[4], b[4]) for number, a in enumerate(self.boxes) for b in self.boxes[:number]
                 if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
        return found + [(box[4], "the edge") for box in self.boxes
                        if box[0] < 0 or box[2] > WIDTH or box[3] > self.height]

    def drawn(self):
        """The file's text. Refused where text would lie over text."""
        if clash := self.collisions():
            raise ValueError(f"text over text: {clash}")
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:.0f}" '
                f'width="{WIDTH}" height="{self.height:.0f}">\n<style>{STYLE}\n</style>\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def wrapped(words, width):
    """Lines of at most so many letters, if no word is longer."""
    lines = []
    if not words:
        return lines
    for word in words.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def color_of(name):
    return OWN.get(name, PEER)


def told_apart(rows):
    """Joins rows (name, value, low, high) whose intervals overlap: the interval hides their order, so they share a
    row, which spans them all. Best first stays as it was."""
    groups = []
    for name, value, low, high in sorted(rows, key=lambda row: row[2]):
        if groups and low <= groups[-1]["high"]:
            group = groups[-1]
            group["names"].append(name)
            group["values"].append(value)
            group["high"] = max(group["high"], high)
        else:
            groups.append({"names": [name], "values": [value], "low": low, "high": high})
    return groups


def bars(drawing, title, rows, number, highest_first, mark=None):
    """A panel of horizontal bars from rows (name, value, low, high)."""
    left, right = 28 + LABEL * LETTER, WIDTH - 110
    groups = told_apart(rows)
    if highest_first:
        groups.reverse()
    drawing.height += 10
    drawing.text(16, drawing.height + 8, title, "quiet")
    drawing.height += 16
    scale = (right - left) / max(*(group["high"] for group in groups), mark or 0)
    top, first = drawing.height, len(drawing.parts)
    for group in groups:
        names = sorted(group["names"], key=lambda name: (name not in OWN, name))
        lines = wrapped(" \u00b7 ".join(name.replace(" ", "\u00a0") for name in names), LABEL)
        height = max(18, LINE * len(lines) + 4)
        centre = drawing.height + height / 2
        value = sum(group["values"]) / len(names)
        for index, line in enumerate(lines):
            drawing.text(left - 8, centre + 4 + LINE * (index - (len(lines) - 1) / 2),
                         line.replace("\u00a0", " "), anchor="end")
        drawing.bar(left, centre - 6, value * scale, 12, color_of(names[0]))
        drawing.line([(left + group[end] * scale, centre) for end in ("low", "high")], kind="whisker")
        ends = list(dict.fromkeys([number(group["low"]), number(group["high"])]))
        label = number(value) if len(names) == 1 else "\u2013".join(ends)
        drawing.text(left + group["high"] * scale + 6, centre + 4, label, "quiet")
        drawing.height += height
    if mark:
        drawing.parts.insert(first, f'<polyline points="{left + mark * scale:.1f},{top:.1f} '
                             f'{left + mark * scale:.1f},{drawing.height:.1f}" fill="none" class="grid"/>')
    drawing.height += 12


def axis_of(values):
    """Round values for a logarithmic axis around `values`: [(value, label)]"""
    for digits in ((1, 2, 5), (1,)):
        rounded = [digit * 10 ** power for power in range(-2, 12) for digit in digits]
        low = max(value for value in rounded if value <= min(values))
        high = min(value for value in rounded if value >= max(values) and value > low)
        ticks = [(value, f"{value:,g}") for value in rounded if low <= value <= high]
        if len(ticks) <= 8:
            break
    return ticks


def dots(drawing, rows):
    """Values of very different sizes, (name, value, label): a dot for each on a logarithmic axis."""
    left, right, step = 130, WIDTH - 90, 18
    top, ticks = drawing.height + 6, axis_of([value for _, value, _ in rows])

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


def lines(drawing, columns, series, mark=None):
    """Lines over named columns: series of {name: {column: (value, low, high)}}, named at their right ends. Columns
    without a value are passed over."""
    left, right, height = 70, WIDTH - 130, 300
    top = drawing.height + 8
    lowest = min([low for row in series.values() for _, low, _ in row.values()] + [mark] * (mark is not None))
    highest = max([high for row in series.values() for _, _, high in row.values()] + [mark] * (mark is not None))
    # A line need not begin at zero, as a bar does.
    step = 10 ** math.floor(math.log10(highest - lowest))
    step = step / 5 if highest - lowest < 2 * step else step / 2 if highest - lowest < 5 * step else step
    ticks = [step * n for n in range(math.floor(lowest / step), math.ceil(highest / step) + 1)]

    def up(value):
        return top + height - (value - ticks[0]) / (ticks[-1] - ticks[0]) * height

    def across(column):
        return left + 20 + columns.index(column) * (right - left - 40) / max(1, len(columns) - 1)

    for value in ticks:
        drawing.line([(left, up(value)), (right, up(value))], kind="whisker" if mark is not None and math.isclose(value, mark) else "grid")
        drawing.text(left - 8, up(value) + 4, f"{round(value, 9):,g}", "quiet", "end")
    for column in columns:
        drawing.text(across(column), top + height + 22, column, "quiet", "middle")
    ends, colors = [], iter(LINES)
    # What matters most is drawn last, above the others.
    for name in sorted(series, key=lambda name: name in OWN):
        color = OWN.get(name) or next(colors, PEER)
        points = [(across(column), *map(up, series[name][column])) for column in columns if column in series[name]]
        drawing.line([(x, y) for x, y, _, _ in points], color)
        for x, y, low, high in points:
            drawing.dot(x, y, color)
            drawing.line([(x, low), (x, high)], color)
        ends.append([points[-1][1], name, color])
    place(ends)
    shift = max(0, top + 6 - ends[0][0])
    for y, name, color in ends:
        drawing.text(right + 4, y + shift + 4, name, color=color)
    drawing.height = max(top + height + 34, ends[-1][0] + shift + 12)


def place(ends, room=LINE):
    """Moves labels apart that would cover each other, each as little as it takes."""
    ends.sort()
    for _ in range(500):
        for above, below in zip(ends, ends[1:]):
            overlap = room - (below[0] - above[0])
            if overlap > 0:
                above[0] -= overlap / 2 + 0.01
                below[0] += overlap / 2 + 0.01
