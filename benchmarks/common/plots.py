"""Figures of measurements as pictures: PNG for people, SVG for the README.

Comes in: panels of lines or bars. Goes out: two files for each picture. Knows nothing of what was
measured. Needs matplotlib, which is imported only when a picture is made.

    panel = Panel("100 users", "users", "p95, ms", (Line("gateway", (1, 8), (21.0, 40.0)),))
    write_picture([panel], folder, "load")
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")
PANEL_INCHES = (5.5, 4.0)
DOTS_PER_INCH = 120


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one name, left to right, with the ends of their spread, if it is known."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    lows: Sequence[float] = ()
    highs: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over one pair of axes; `limit` is a dashed one across, an aim or a bound."""

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line]
    limit: float | None = None
    is_log_x: bool = False
    is_log_y: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """A bar for each name, of its parts one on the other."""

    title: str
    x_label: str
    parts: Mapping[str, Mapping[str, float]]  # bar, part, length


def write_picture(panels: Sequence[Panel | Bars], folder: Path, name: str) -> list[Path]:
    """`name`.png and `name`.svg with the panels side by side; returns the files."""
    figure = new_figure(len(panels))
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        if isinstance(panel, Bars):
            _draw_bars(axes, panel)
        else:
            _draw_lines(axes, panel)
    return save(figure, folder, name)


def new_figure(num_panels: int = 1) -> "Figure":
    """An empty one, for pictures that are neither lines nor bars; no window, no global state."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (a second to import, an extra)

    width, height = PANEL_INCHES
    return Figure(figsize=(width * num_panels, height), layout="constrained")


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """In all formats; the same figure gives the same bytes."""
    import matplotlib as mpl  # noqa: PLC0415 (as above)

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{ending}" for ending in FORMATS]
    for path in paths:
        with mpl.rc_context({"svg.hashsalt": name}):
            dated = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=DOTS_PER_INCH, metadata=dated)
    return paths


def _draw_lines(axes: "Axes", panel: Panel) -> None:
    for line in panel.lines:
        (drawn,) = axes.plot(line.xs, line.ys, "o-", label=line.name, markersize=4)
        if line.lows:
            axes.fill_between(
                line.xs, line.lows, line.highs, color=drawn.get_color(), alpha=0.2, linewidth=0
            )
    if panel.limit is not None:
        axes.axhline(panel.limit, color="0.4", linestyle="--", linewidth=1)
    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
    if panel.is_log_x:
        axes.set_xscale("log")
    if panel.is_log_y:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if len(panel.lines) > 1:
        axes.legend(fontsize=8)


def _draw_bars(axes: "Axes", panel: Bars) -> None:
    names = list(panel.parts)
    parts = list(dict.fromkeys(part for one in panel.parts.values() for part in one))
    starts = [0.0] * len(names)
    for part in parts:
        lengths = [panel.parts[name].get(part, 0.0) for name in names]
        axes.barh(names, lengths, left=starts, label=part)
        starts = [start + length for start, length in zip(starts, lengths, strict=True)]
    axes.invert_yaxis()  # the first on top
    axes.set(title=panel.title, xlabel=panel.x_label)
    axes.grid(axis="x", alpha=0.3)
    if len(parts) > 1:
        axes.legend(fontsize=8)
