"""Standings, and the circumstances that they depend on, in; a table, JSON, a Markdown report and
Pareto plots out.

Knows nothing of how they were measured. The plots need matplotlib, which is imported only here.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from export.standing import Standing

WIDTH = 170  # of the table where no terminal says how wide it is
JSON_FILE, MARKDOWN_FILE, PLOT_FILES = "compare.json", "compare.md", ("pareto.png", "pareto.svg")


def print_table(standings: Sequence[Standing]) -> None:
    """One row a contender, to stdout."""
    table = Table()
    headers, rows = _cells(standings)
    for index, header in enumerate(headers):
        table.add_column(header, justify="left" if index < 2 else "right", no_wrap=index > 1)
    for row in rows:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)


def to_json(standings: Sequence[Standing], circumstances: Mapping[str, str]) -> str:
    """One object: `circumstances`, and `standings` in their order, the reference first."""
    return json.dumps(
        {
            "circumstances": dict(circumstances),
            "standings": [dataclasses.asdict(one) for one in standings],
        },
        indent=2,
    )


def write_report(
    standings: Sequence[Standing], circumstances: Mapping[str, str], folder: Path
) -> list[Path]:
    """Write all forms into a folder; without matplotlib no plots. Returns what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    has_plots = find_spec("matplotlib") is not None
    texts = {
        JSON_FILE: to_json(standings, circumstances) + "\n",
        MARKDOWN_FILE: _markdown(standings, circumstances, has_plots),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    plots = [folder / name for name in PLOT_FILES] if has_plots else []
    if plots:
        _plot(standings, plots)
    return [*(folder / name for name in texts), *plots]


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of points whose both numbers should be small, which no other one beats."""
    return [
        not any(other[0] <= one[0] and other[1] <= one[1] and other != one for other in points)
        for one in points
    ]


def _cells(standings: Sequence[Standing]) -> tuple[list[str], list[list[str]]]:
    headers = ["model", "precision", "MB", "perplexity", "KL", "top-1", "greedy texts", "load s"]
    headers += [f"{name} tok/s" for name in standings[0].speeds]
    rows = [
        [
            one.name,
            one.precision,
            f"{one.size_bytes / 1e6:.1f}",
            f"{one.perplexity:.3f} ({round(one.perplexity_rise, 4) + 0.0:+.2%})",
            f"{one.mean_kl:.1e}",
            f"{one.top1:.2%}",
            f"{one.greedy_texts:.0%} of {one.num_texts}",
            f"{one.load_s:.2f}",
            *(f"{speed.tokens_s:,.0f} ({speed.ratio:.2f}x)" for speed in one.speeds.values()),
        ]
        for one in standings
    ]
    return headers, rows


def _markdown(
    standings: Sequence[Standing], circumstances: Mapping[str, str], has_plots: bool
) -> str:
    headers, rows = _cells(standings)
    noise = max(speed.spread for one in standings for speed in one.speeds.values())
    lines = [
        "# Comparison",
        "",
        f"Everything is measured against the first row, on {standings[0].tokens:,} tokens; speeds "
        "are medians of steps that all models took in turn, with the median ratio of the pairs. "
        f"The quartiles of a step's time lie up to {noise:.0%} of its median apart.",
        "",
        *(f"- {name}: {value}" for name, value in circumstances.items()),
        "",
        *(f"| {' | '.join(row)} |" for row in (headers, ["---"] * len(headers), *rows)),
        *(["", f"![Quality against speed and size]({PLOT_FILES[0]})"] if has_plots else []),
    ]
    return "\n".join(lines) + "\n"


def _plot(standings: Sequence[Standing], paths: Sequence[Path]) -> None:
    """Perplexity's rise over a token's time at batch 1, and over size; below and left is better."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (a second to import, optional)

    speed = next(iter(standings[0].speeds))
    figure = Figure(figsize=(11, 4.5), layout="constrained")  # Agg: no window, no global state
    left, right = figure.subplots(1, 2)
    rises = [100 * one.perplexity_rise for one in standings]
    times = [1e3 / one.speeds[speed].tokens_s for one in standings]
    sizes = [one.size_bytes / 1e6 for one in standings]
    names = [
        one.name if one.precision in one.name else f"{one.name} {one.precision}"
        for one in standings
    ]
    _panel(left, times, rises, names, f"{speed}: ms a token")
    _panel(right, sizes, rises, names, "MB on disk")
    for path in paths:
        figure.savefig(path, dpi=120)


def _panel(
    axes: Any, xs: Sequence[float], ys: Sequence[float], names: Sequence[str], label: str
) -> None:
    best = pareto(list(zip(xs, ys, strict=True)))
    front = sorted(
        point for point, is_best in zip(zip(xs, ys, strict=True), best, strict=True) if is_best
    )
    axes.plot(*zip(*front, strict=True), "-", color="0.7", zorder=1)
    colors = ["tab:green" if is_best else "tab:red" for is_best in best]
    axes.scatter(xs, ys, c=colors, zorder=2)
    for x, y, name in zip(xs, ys, names, strict=True):
        axes.annotate(name, (x, y), xytext=(5, 5), textcoords="offset points", fontsize=7)
    axes.set(xlabel=label, ylabel="rise of perplexity, %", xlim=(0, 1.3 * max(xs)))
    axes.margins(0.15)
    axes.grid(alpha=0.3)
