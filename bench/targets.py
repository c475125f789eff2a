"""What weft is to reach, by workload and setting: `BUDGETS` is the one place where that is written down. README's
table shows it beside what was found."""

from fnmatch import fnmatch
from typing import NamedTuple

import harness
import turns

STYLES = ("callback", "coroutine")


class Budget(NamedTuple):
    workload: str
    setting: str       # a pattern
    callback: float    # None: nothing is aimed at
    coroutine: float
    kind: str = "speed"  # speed: at least, the base = 1; time: at most, of the base's; value: at most, in the unit

    def of(self, style):
        return getattr(self, style)

    def found(self, figure):
        """(value, low, high) as this budget looks at it, or None if it was not measured."""
        if self.kind == "value":
            return (figure["value"], *figure["interval"]) if "value" in figure else None
        if "ratio" not in figure:
            return None
        ratio, (low, high) = figure["ratio"], figure["interval"]
        return (ratio, low, high) if self.kind == "speed" else (1 / ratio, 1 / high, 1 / low)

    def verdict(self, style, figure):
        aimed, found = self.of(style), self.found(figure)
        if aimed is None or found is None:
            return ""
        value, low, high = found
        if self.kind == "speed":
            value, low, high, aimed = -value, -high, -low, -aimed
        # Only what lies beyond as a whole is a miss, and what lies within as a whole is met however wide it is.
        whole = "met" if high <= aimed else "missed" if low > aimed else ""
        if figure.get("generations", turns.FEWEST) < turns.FEWEST:
            return "too few"
        if figure["noisy"]:
            return f"{whole}, noisy" if whole else "noisy"
        return whole or ("met, nearly" if value <= aimed else "missed, nearly")

    def aimed(self):
        """In words, for the table."""
        values = [value for value in (self.callback, self.coroutine) if value is not None]
        sign = "≥" if self.kind == "speed" else "≤"
        return f"{sign} {', '.join(f'{value:g}' for value in dict.fromkeys(values))}"


BUDGETS = [
    Budget("echo", "64 B, 512 connections", 0.98, 0.95),
    Budget("echo", "512 B, 64 in flight*", None, 0.97),
    Budget("echo", "* connections", 0.98, 0.97),
    Budget("lines", "*", 0.98, 0.95),
    Budget("connect", "*", 0.98, 0.96),
    Budget("flood", "*", 0.97, 0.97),
    Budget("memcached", "*", 1.05, 1.05, "time"),
    Budget("redis", "*", 0.9, 0.9, "time"),
    Budget("share", "*", 0.99, 0.99),
    Budget("timeouts", "*", 0.99, None),
    Budget("idle", "*", 192, 4811, "value"),
    Budget("fairness", "the median", 500, 500, "value"),
    Budget("fairness", "the 99th percentile", 2500, 2500, "value"),
    Budget("coroutines", "switch*", None, 6, "value"),
    Budget("coroutines", "yield and back, 2 *", None, 15, "value"),
    Budget("coroutines", "*hand-off*", None, 25, "value"),
    Budget("coroutines", "spawn and join, one*", None, 60, "value"),
]


def budget_of(comparison):
    for budget in BUDGETS:
        if budget.workload == comparison["workload"] and fnmatch(comparison["setting"], budget.setting):
            return budget
    return None


def report(comparisons):
    """Prints what was aimed at beside what was found."""
    rows = []
    for comparison in comparisons:
        if not (budget := budget_of(comparison)):
            continue
        for style in STYLES:
            figure = comparison["servers"].get(style, {})
            if verdict := budget.verdict(style, figure):
                value, low, high = budget.found(figure)
                rows.append([f"{comparison['workload']}, {comparison['setting']}: {style}",
                             f"{'>=' if budget.kind == 'speed' else '<='} {budget.of(style):g}",
                             f"{value:.4g}", f"{low:.4g} .. {high:.4g}", verdict])
    if rows:
        print("\nwhat was aimed at (nearly: the interval reaches over it)")
        print(harness.table(["", "aimed at", "found", "95 % interval", ""], rows))
