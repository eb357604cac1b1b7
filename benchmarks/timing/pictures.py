"""Pictures of where time goes: rows of a measurement in, panels out. Knows nothing of drawing."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from benchmarks.common.plots import Bars, Line, Panel

if TYPE_CHECKING:
    from benchmarks.timing.agreement import Agreement
    from benchmarks.timing.breakdown import Part
    from benchmarks.timing.floor import Floor
    from benchmarks.timing.stages import Stage


def waterfall_panels(rows: "Sequence[Stage]") -> list[Bars]:
    """For each number of users a bar a way, its stages one behind the other."""
    groups = groupby(rows, key=lambda row: (row.num_users, row.way))
    bars: dict[int, dict[str, dict[str, float]]] = {}
    for (num_users, way), stages in groups:
        lengths = {row.stage: row.mean_ms for row in stages}
        bars.setdefault(num_users, {})[way] = dict(list(lengths.items())[:-1])
    return [
        Bars(f"{num_users} users", "mean ms of each stage", parts)
        for num_users, parts in bars.items()
    ]


def breakdown_panels(rows: "Sequence[Part]") -> list[Bars]:
    """A bar for each batch and way of sampling, the shares of its parts one behind the other."""
    groups = groupby(rows, key=lambda row: (row.way, row.batch))
    shares = {
        f"{way}, {batch}": {row.part: 100 * row.share for row in list(parts)[1:]}
        for (way, batch), parts in groups
    }
    return [Bars("a step of the engine", "% of the step", shares)]


def floor_panels(rows: "Sequence[Floor]") -> list[Bars]:
    """How many times the least time each kind of step takes."""
    ratios = {
        f"{row.kind}, {row.precision}": {"least time": 1.0, "above it": row.ratio - 1}
        for row in rows
    }
    return [Bars("a step over the least time for it", "times", ratios)]


def agreement_panels(rows: "Sequence[Agreement]") -> list[Panel]:
    """Answers a second and the median time by users, and that time by rate; both clients."""
    wanted = (
        ("users", "users at once", "per_s", "answers a second"),
        ("users", "users at once", "p50_ms", "median ms"),
        ("rate", "requests a second", "p50_ms", "median ms"),
    )
    panels = []
    for kind, x_label, figure, y_label in wanted:
        own = [row for row in rows if row.kind == kind]
        lines = [
            Line(
                f"{way}, {'perf_analyzer' if client == 'theirs' else 'our client'}",
                [row.value for row in own if row.way == way],
                [getattr(getattr(row, client), figure) for row in own if row.way == way],
            )
            for way in dict.fromkeys(row.way for row in own)
            for client in ("theirs", "ours")
        ]
        if lines:
            panels.append(Panel(f"{y_label} by {x_label}", x_label, y_label, lines))
    return panels
