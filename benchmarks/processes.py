"""What servers cost this machine: the processor time of processes and of all below them.

Comes in: process ids. Goes out: seconds. Reads /proc; knows nothing of servers.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time so far: every thread, every living descendant, and the ended ones."""
    ticks = 0
    for pid in {one for top in pids for one in _tree(top)}:
        with suppress(OSError):  # it ended meanwhile: its parent's count has it
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _tree(int(child))
