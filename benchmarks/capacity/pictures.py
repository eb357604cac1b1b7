"""Pictures of simulated days and of the checks. Comes in: their figures. Goes out: PNG and SVG."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.capacity.curve import ServiceCurve
from benchmarks.capacity.developers import HOUR_S
from benchmarks.capacity.fleet import Moment
from benchmarks.capacity.monthly import Month
from benchmarks.capacity.tally import GOAL_S
from benchmarks.capacity.validation import Check
from benchmarks.capacity.world import Row
from benchmarks.common.plots import Line, Panel, write_picture

TIMES = {"first, p50": "first_p50_s", "whole, p50": "total_p50_s", "whole, p95": "total_p95_s"}
EVERY = 20  # periods of 15 s: a point for five minutes


def draw_days(
    days: Sequence[tuple[Row, list[Moment]]],
    months: Sequence[Month],
    curve: ServiceCurve,
    folder: Path,
) -> None:
    """Cost by size; and the day of the most developers, each kind of day a line."""
    most = max(row.num_developers for row, _ in days)
    largest = [(row, moments) for row, moments in days if row.num_developers == most]
    write_picture(
        [
            Panel(
                f"replicas, {most:,} developers",
                "hour of the day, UTC",
                "replicas",
                [_line(row, moments, "num_replicas") for row, moments in largest],
            ),
            Panel(
                f"p95 of whole answers, {most:,} developers",
                "hour of the day, UTC",
                "ms, the worst region",
                [_line(row, moments, "p95_s", 1e3) for row, moments in largest],
                limit=GOAL_S * 1e3,
            ),
        ],
        folder,
        "capacity-day",
    )
    write_picture([_cost_panel(months), *_curve_panels(curve)], folder, "capacity")


def draw_checks(checks: Sequence[Check], folder: Path) -> None:
    """Measured and simulated p50 and p95 by arrival rate, a panel for each number of replicas."""
    panels = []
    for num_replicas in sorted({one.num_replicas for one in checks}):
        rows = [one for one in checks if one.num_replicas == num_replicas]
        rates = [one.per_s for one in rows]
        lines = []
        for name in ("p50_ms", "p95_ms"):
            lows, highs, middles, measured = (
                [getattr(figures, name) for figures in column]
                for column in zip(
                    *((one.low, one.high, one.simulated, one.measured) for one in rows), strict=True
                )
            )
            lines.append(Line(f"{name[:3]} simulated", rates, middles, lows, highs))
            lines.append(Line(f"{name[:3]} measured", rates, measured))
        title = f"{num_replicas} {'replica' if num_replicas == 1 else 'replicas'}"
        panels.append(Panel(title, "questions a second", "whole answers, ms", lines))
    write_picture(panels, folder, "capacity-validation")


def _line(row: Row, moments: Sequence[Moment], name: str, factor: float = 1.0) -> Line:
    shown = moments[::EVERY]
    hours = [one.at_s / HOUR_S for one in shown]
    return Line(row.day, hours, [getattr(one, name) * factor for one in shown])


def _cost_panel(months: Sequence[Month]) -> Panel:
    day = months[0].row.day
    shown = [one for one in months if one.row.day == day]
    sizes = [float(one.row.num_developers) for one in shown]
    lines = [
        Line(name.replace("_", " "), sizes, [getattr(one, name) for one in shown])
        for name in ("on_demand", "base_reserved", "spot")
    ]
    title, label = f"cost of a developer and month, {day} days", "USD"
    return Panel(title, "developers", label, lines, is_log_x=True, is_log_y=True)


def _curve_panels(curve: ServiceCurve) -> list[Panel]:
    streams = [float(one.num_streams) for one in curve.levels]
    rate = Line("answers", streams, [one.per_s for one in curve.levels])
    times = [
        Line(name, streams, [getattr(one, field) * 1e3 for one in curve.levels])
        for name, field in (
            ("first p50", "first_p50_s"),
            ("p50", "total_p50_s"),
            ("p95", "total_p95_s"),
        )
    ]
    title, label = "one replica, measured", "questions under way"
    return [
        Panel(title, label, "answers a second", [rate]),
        Panel(title, label, "ms", times, limit=GOAL_S * 1e3, is_log_y=True),
    ]
