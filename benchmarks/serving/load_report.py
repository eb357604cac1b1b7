"""Rows of loads to what people read: a table, and pictures.

Pure; knows nothing of servers.
"""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from benchmarks.common.machine import machine
from benchmarks.common.plots import Line, Panel
from benchmarks.serving.developers import Most
from benchmarks.serving.load import Shape
from benchmarks.serving.load_rounds import Row
from benchmarks.serving.performance import LIMIT_S, Performance

OPEN_SHAPES = ("open", "burst")
TITLES = (
    *("first p50", "gap p50", "p50 ms", "p95 ms", "p99 ms", "tokens/s", "good", "wasted", "errors"),
    *("CPU ms/token", "$/1K"),
)
NAME_WIDTH, LEAST_WIDTH = 29, 7  # characters, of a title or a figure


def head_lines(shape: Shape, seconds: float, warm_s: float) -> Iterator[str]:
    """What is asked, on what, and the titles of the columns."""
    yield f"{shape}, {seconds:g} s after {warm_s:g}, {machine()}"
    level = "per s" if shape in OPEN_SHAPES else "users"
    yield f"{'':<{NAME_WIDTH}}{level:>6}{_columns(TITLES)}"


def row_lines(rows: Sequence[Row], price_per_hour: float) -> Iterator[str]:
    """Rows of the same rounds, what failed in them, and their ratios to the first."""
    for row in rows:
        yield _line(row, price_per_hour)
        yield from (f"    {number} times {kind}" for kind, number in row.errors.items())
    for row in rows:
        if ratio := row.speed:
            yield (
                f"{rows[0].target} brings {ratio.value:.2f} times the tokens of {row.target} at "
                f"{row.level:g} ({ratio.low:.2f} to {ratio.high:.2f}, {ratio.num_rounds} rounds): "
                f"{ratio.verdict}"
            )
        elif row.target != rows[0].target:
            yield f"{row.target} brought no token in a round at {row.level:g}: there is no ratio"


def most_line(most: Most) -> str:
    """How many developers, and how many are too many."""
    beyond = "no probe failed" if most.failed is None else f"{most.failed} were too many"
    return f"{most.held} developers at p95 of {LIMIT_S * 1e3:.0f} ms; {beyond}"


def panels_of(rows: Sequence[Row]) -> list[Panel]:
    """Times, throughput and goodput by level, a line for each server."""
    limit_ms = LIMIT_S * 1e3
    label = "questions a second" if rows[0].shape in OPEN_SHAPES else "users"
    return [
        Panel(
            "whole answers, 95 of 100",
            label,
            "ms",
            _drawn(rows, lambda one: one.total.p95_ms),
            limit_ms,
            is_log_y=True,
        ),
        Panel("throughput", label, "tokens/s", _drawn(rows, lambda one: one.tokens_per_s)),
        Panel(
            f"whole within {limit_ms:.0f} ms",
            label,
            "% of what was asked",
            _drawn(rows, lambda one: 100 * one.goodput),
        ),
    ]


def _line(row: Row, price: float) -> str:
    figures: list[tuple[Callable[[Performance], float], str]] = [
        (lambda one: one.first.p50_ms, ".1f"),
        (lambda one: one.gap.p50_ms, ".1f"),
        (lambda one: one.total.p50_ms, ".1f"),
        (lambda one: one.total.p95_ms, ".1f"),
        (lambda one: one.total.p99_ms, ".1f"),
        (lambda one: one.tokens_per_s, ".0f"),
        (lambda one: one.goodput, ".1%"),
        (lambda one: one.wasted_tokens, ".0f"),
        (lambda one: one.error_rate, ".1%"),
        (lambda one: one.cpu_ms_per_token, ".2f"),
        (lambda one: one.cost_per_1k(price), ".5f"),
    ]
    shown = [f"{row.median(figure):{form}}" for figure, form in figures]
    return f"{row.target:<{NAME_WIDTH}}{row.level:>6g}{_columns(shown)}"


def _columns(words: Sequence[str]) -> str:
    widths = (max(len(title), LEAST_WIDTH) + 2 for title in TITLES)
    return "".join(f"{word:>{width}}" for word, width in zip(words, widths, strict=True))


def _drawn(rows: Sequence[Row], figure: Callable[[Performance], float]) -> list[Line]:
    """A line for each server, with the spread of all rounds that it had, beside whomever."""
    lines = []
    for name in dict.fromkeys(row.target for row in rows):
        found: dict[float, list[float]] = {}
        for row in rows:
            if row.target == name:
                found.setdefault(row.level, []).extend(map(figure, row.rounds))
        levels = sorted(found)
        lines.append(
            Line(
                name,
                levels,
                [median(found[level]) for level in levels],
                [min(found[level]) for level in levels],
                [max(found[level]) for level in levels],
            )
        )
    return lines
