"""What gateways that died left in the journals' folder.

Comes in: the folder. Goes out: the rows of each dead run, finished or interrupted, and when they
are booked its files go. A file whose lock is held is a living gateway's and left alone.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

from gateway.account.journal import SUFFIX
from gateway.account.rows import Row, from_line

_UNNAMED_S = 60.0  # a file gets its name and its lock within milliseconds


def recover(folder: Path, book: Callable[[list[Row]], None]) -> int:
    """Book what dead runs left, and remove it; how many rows. Raises what `book` raises."""
    num_rows = 0
    for path in folder.glob("*.new"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _UNNAMED_S:
                path.unlink()
    files = sorted(folder.glob(f"*{SUFFIX}"), key=_place)
    for _, run in groupby(files, key=lambda path: _place(path)[0]):
        with _locked(list(run)) as dead:
            rows = _read(dead)
            book(rows)
            num_rows += len(rows)
            for path in reversed(dead):  # the oldest last: it is what the next one locks first
                path.unlink(missing_ok=True)
    return num_rows


@contextmanager
def _locked(run: list[Path]) -> Iterator[list[Path]]:
    """The files of one run, locked; none when another process has one of them."""
    with ExitStack() as stack:
        try:
            for path in run:
                file = os.open(path, os.O_RDONLY)
                stack.callback(os.close, file)
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            run = []
        yield run


def _read(files: list[Path]) -> list[Row]:
    """The newest word on each request; a torn or damaged line is none."""
    rows: dict[str, Row] = {}
    for path in files:
        for line in path.read_bytes().splitlines():
            row = from_line(line)
            if row is not None and (row.is_finished or row.id not in rows):
                rows[row.id] = row
    return list(rows.values())


def _place(path: Path) -> tuple[str, int]:
    """A run's name, and the file's number in it."""
    run, _, number = path.stem.rpartition("-")
    return run, int(number) if number.isdecimal() else 0
