"""Steps done in; a bar on a terminal, and a plain line now and then elsewhere, out.

Both go to stderr: stdout is for results.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
LINE_EVERY_S = 10.0


def track(
    items: Iterable[Item],
    total: int,
    label: str,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Item]:
    """Yield the items and show how many of ``total`` are done; ``stream`` is stderr when None."""
    stream = stream or sys.stderr
    show = _bar if stream.isatty() else _lines
    return show(items, total, label, stream, clock)


def _bar(
    items: Iterable[Item], total: int, label: str, stream: TextIO, _: Callable[[], float]
) -> Iterator[Item]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Console(file=stream)
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        yield from progress.track(items, total=total, description=label)


def _lines(
    items: Iterable[Item], total: int, label: str, stream: TextIO, clock: Callable[[], float]
) -> Iterator[Item]:
    shown_at = clock()
    for num_done, item in enumerate(items):
        if clock() - shown_at >= LINE_EVERY_S:
            shown_at = clock()
            print(f"{label}: {num_done} of {total}", file=stream, flush=True)
        yield item
