"""A run's log records in, ``curve.png`` (training and validation loss by step) out.

Needs matplotlib and imports it only here; without it there is no picture and the run goes on.
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def has_matplotlib() -> bool:
    return find_spec("matplotlib") is not None


def write_curve(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draw both losses, in nats a token, over the steps."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (a second to import, optional)

    rows = list(records)
    figure = Figure(figsize=(8, 4.5), layout="constrained")  # Agg: no window, no global state
    axes = figure.subplots()
    for name, style in (("loss", "-"), ("val_loss", "o-")):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), style, label=name, markersize=3, linewidth=1)
    axes.set(xlabel="step", ylabel="loss, nats a token")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.savefig(path, dpi=120)
