"""Drawings of the dashboards' data: a Prometheus that scraped in, one PNG a dashboard out.

They show what the panels' queries bring, in the panels' order; it is not Grafana's own screen.
"""

import time
from pathlib import Path
from typing import Any

import httpx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from monitoring.panels import RATE, Board, Panel

COLUMNS = 3
POINTS = 120
LEGENDS = 6  # lines that are named at most
TIMEOUT_S = 30.0


class NoAnswer(Exception):
    """Prometheus can't be asked, or refuses a query."""


def draw_board(board: Board, url: str, minutes: float, folder: Path) -> None:
    """Draw a dashboard over the last minutes; raises NoAnswer."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:
        _draw(board, http, minutes).savefig(folder / f"{board.name}.png", dpi=70)


def _draw(board: Board, http: httpx.Client, minutes: float) -> Figure:
    num_rows = -(-len(board.panels) // COLUMNS)
    figure = Figure(figsize=(COLUMNS * 5, num_rows * 2.4), layout="constrained")
    figure.suptitle(
        f"{board.title}: what the queries bring, {minutes:g} minutes (not Grafana's screen)"
    )
    for place, panel in enumerate(board.panels, start=1):
        axes = figure.add_subplot(num_rows, COLUMNS, place)
        axes.set_title(panel.title, fontsize=10, loc="left")
        series = {
            _legend(legend, one["metric"]): one["values"]
            for legend, query in panel.queries.items()
            for one in _ask(http, query, minutes)
        }
        (_write if panel.is_number else _plot)(axes, panel, series)
    return figure


def _ask(http: httpx.Client, query: str, minutes: float) -> list[dict[str, Any]]:
    """The series of a query over the last minutes, as Prometheus tells them."""
    now, length_s = time.time(), minutes * 60
    window = {"start": now - length_s, "end": now, "step": length_s / POINTS}
    data = {"query": query.replace(RATE, "1m"), **window}
    try:
        answer = http.post("/api/v1/query_range", data=data).raise_for_status()
    except httpx.HTTPError as error:
        told = f"Prometheus at {http.base_url} refuses {query!r}: {error}"
        raise NoAnswer(f"{told}: is --prometheus its address?") from None
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def _legend(template: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        template = template.replace(f"{{{{{name}}}}}", value)
    return template


def _plot(axes: Axes, panel: Panel, series: dict[str, list[tuple[float, str]]]) -> None:
    for number, (legend, values) in enumerate(series.items()):
        times = [(when - values[-1][0]) / 60 for when, _ in values]
        label = legend if number < LEGENDS else None
        axes.plot(times, [float(value) for _, value in values], label=label, linewidth=1.2)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _told(value, panel.unit)))
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if any(series):
        axes.legend(fontsize=7, loc="upper left")


def _write(axes: Axes, panel: Panel, series: dict[str, list[tuple[float, str]]]) -> None:
    told = [legend or _told(float(values[-1][1]), panel.unit) for legend, values in series.items()]
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, "\n".join(told), fontsize=24 if "" in series else 12, ha="center", va="center"
    )


def _told(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{value:.3%}" if 0.99 < value < 1 else f"{value:.1%}"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 1e6:.3g} MB"
    return f"{value:.4g}"
