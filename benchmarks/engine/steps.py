"""How long a step takes in one way and in another, in pairs: two graphs, together or apart, ...

Comes in: an exported version. Goes out: a row of milliseconds for each kind of step. No server
takes part: runners are called in this process, in turn, so that both ways see the same noise.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nanotriton.contract import GRAPH_FILE
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch, Chunk, Runner
from nanotriton.runners.graphs import GraphUse
from nanotriton.runners.ort import OrtRunner
from nanotriton.runners.timing import PAST, decode_batch, decode_rows, prefill_batch
from nanotriton.runners.trt import TrtRunner

CHUNKS = (32, 64, 128)
ROWS_BESIDE = (1, 8, 32)
BATCHES = (1, 2, 4, 8, 16, 32)
PREFILL = 256
NUM_SLOTS = max(BATCHES) + 1


@dataclass(frozen=True, slots=True)
class Pair:
    """One step's work in two ways."""

    kind: str
    first: Callable[[], object]
    second: Callable[[], object]


@dataclass(frozen=True, slots=True)
class StepTime:
    """Median milliseconds of both ways, and the median ratio of the second to the first."""

    kind: str
    first_ms: float
    second_ms: float
    ratio: float


def compare_graphs(folder: Path, num_threads: int) -> list[Pair]:
    """Steps by model.onnx and by the decode graph; raises ValueError when there is only one."""
    manifest = Manifest.load(folder)
    if manifest.decode_graph is None:
        raise ValueError(
            f"{folder} has one graph, of precision {manifest.precision}: export it again with "
            "--precision auto"
        )
    files = (GRAPH_FILE, manifest.decode_graph.file)
    first, second = (
        OrtRunner(folder, NUM_SLOTS, num_threads, GraphUse(only=name)) for name in files
    )
    return _pairs_of(first, second)


def compare_versions(folders: Sequence[Path], num_threads: int) -> list[Pair]:
    """Steps by two versions of models of one size."""
    first, second = (OrtRunner(folder, NUM_SLOTS, num_threads) for folder in folders)
    return _pairs_of(first, second)


def compare_attention(folder: Path, num_threads: int) -> list[Pair]:
    """Steps with ONNX Runtime's attention, and with our own library's.

    Raises ValueError where there is no such library, or the version has no place for it.
    """
    standard, native = (
        OrtRunner(folder, NUM_SLOTS, num_threads, GraphUse(native_attention=is_native))
        for is_native in (False, True)
    )
    if not native.has_native_attention:
        raise ValueError(
            f"{folder} is attended by ONNX Runtime alone: install nanotriton where there is a C++ "
            "compiler, and export the version again"
        )
    return _pairs_of(standard, native)


def compare_mixed(
    folder: Path,
    num_threads: int,
    chunks: Sequence[int] = CHUNKS,
    rows_beside: Sequence[int] = ROWS_BESIDE,
) -> list[Pair]:
    """A chunk and decode rows one after the other, and in one step."""
    runner = OrtRunner(folder, NUM_SLOTS, num_threads)

    def pair(num_tokens: int, num_rows: int) -> Pair:
        chunk, decode = _chunk(num_tokens, runner.context), decode_rows(num_rows, runner.context)
        rows = np.arange(num_rows)
        parts = (
            Batch(np.array([num_tokens - 1]), chunk),
            Batch(rows, decode=decode),
        )
        together = Batch(np.append(num_tokens - 1, num_tokens + rows), chunk, decode)
        return Pair(
            f"{num_tokens} + {num_rows}",
            lambda: [runner.run(part) for part in parts],
            lambda: runner.run(together),
        )

    return [pair(num_tokens, num_rows) for num_tokens in chunks for num_rows in rows_beside]


def compare_recorded(folder: Path) -> list[Pair]:
    """Steps of a TensorRT plan, launched kernel by kernel and replayed where they are recorded.

    A prompt is never recorded: both ways are one. Raises RunnerError without the plan's GPU.
    """
    launched = TrtRunner(folder, max(BATCHES), records_decode=False)
    print(f"on {launched.gpu}", file=sys.stderr)
    return _pairs_of(launched, TrtRunner(folder, max(BATCHES)))


def measure(
    pairs: Sequence[Pair], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[StepTime]:
    """Time both ways of each pair in turn; `clock` gives seconds."""
    return [_time(pair, rounds, clock) for pair in pairs]


def _time(pair: Pair, rounds: int, clock: Callable[[], float]) -> StepTime:
    times = np.empty((rounds, 2))
    for index in range(-1, rounds):  # the first one warms up, and is written over
        for column, run in enumerate((pair.first, pair.second)):
            started = clock()
            run()
            times[index, column] = (clock() - started) * 1e3
    first_ms, second_ms = np.median(times, axis=0).tolist()
    return StepTime(pair.kind, first_ms, second_ms, float(np.median(times[:, 1] / times[:, 0])))


def _pairs_of(first: Runner, second: Runner) -> list[Pair]:
    """Decode steps of growing batches, and a prompt."""
    batches = {
        f"decode {num_rows}": decode_batch(num_rows, first.context)
        for num_rows in BATCHES
        if num_rows <= first.num_slots
    }
    size = min(PREFILL, first.context)
    batches[f"prefill {size}"] = prefill_batch(size)
    return [
        Pair(kind, partial(first.run, batch), partial(second.run, batch))
        for kind, batch in batches.items()
    ]


def _chunk(num_tokens: int, context: int) -> Chunk:
    """In the slot behind those of the decode rows."""
    past = min(PAST, context - num_tokens)
    return Chunk(NUM_SLOTS - 1, np.ones(num_tokens, np.int64), past)
