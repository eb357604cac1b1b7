"""How many threads, and whether they spin: steps of one version under each choice, in turn.

Comes in: an exported version, numbers of threads, and what to do beside. Goes out: a row of
milliseconds for each choice and kind of step. `busy` processes that compute all the time stand for
what a server and its clients do on the same cores.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch
from nanotriton.runners.ort import OrtRunner
from nanotriton.runners.timing import decode_batch, prefill_batch

NUM_ROWS = (1, 8)
PREFILL = 128
# Threads spin on for a moment after a step: the next choice must not feel those of the last.
PAUSE_S = 0.02
BUSY = "while True: sum(range(10_000))"


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run; times in milliseconds, and the median ratio to the first choice."""

    num_threads: int
    spinning: bool
    kind: str
    median_ms: float
    ratio: float


def measure_threads(
    folder: Path, num_threads: Sequence[int], spinning: Sequence[bool], rounds: int, num_busy: int
) -> list[Choice]:
    """Time decode steps of 1 and 8 rows and a prompt chunk under every choice."""
    context = Manifest.load(folder).context
    ways = list(product(num_threads, spinning))
    runners = [OrtRunner(folder, max(NUM_ROWS), one, spinning=spin) for one, spin in ways]
    batches = {f"decode {rows}": decode_batch(rows, context) for rows in NUM_ROWS}
    batches[f"prefill {PREFILL}"] = prefill_batch(min(PREFILL, context))
    found = []
    with _busy(num_busy):
        for kind, batch in batches.items():
            times = _time(runners, batch, rounds)  # (rounds, ways)
            ratios = np.median(times / times[:, :1], axis=0)
            for way, ms, ratio in zip(ways, np.median(times, axis=0), ratios, strict=True):
                found.append(Choice(*way, kind, float(ms), float(ratio)))
    return found


def _time(runners: list[OrtRunner], batch: Batch, rounds: int) -> NDArray[np.float64]:
    times = np.empty((rounds, len(runners)))
    for index in range(-1, rounds):  # the first is not counted
        for column, runner in enumerate(runners):
            time.sleep(PAUSE_S)
            started = time.perf_counter()
            runner.run(batch)
            times[max(index, 0), column] = (time.perf_counter() - started) * 1e3
    return times


@contextmanager
def _busy(number: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for one in processes:
            one.kill()
            one.wait()
