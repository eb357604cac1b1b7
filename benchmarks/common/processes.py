"""What servers cost this machine: the processor time of processes and of all below them.

Comes in: process ids. Goes out: seconds, by program. Reads /proc; knows nothing of servers.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time so far: every thread, every living descendant, and the ended ones."""
    return sum(cpu_by_program(pids).values())


def cpu_by_program(pids: Iterable[int]) -> Mapping[str, float]:
    """The same, by what runs: a Python module's name, or the program's."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for pid in {one for top in pids for one in _tree(top)}:
        with suppress(OSError):  # it ended meanwhile: its parent's count has it
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc(5)
            seconds[_program(pid)] += ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def _program(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if "-m" in words[:3]:
        return words[words.index("-m") + 1]
    return Path(words[0]).name


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _tree(int(child))
