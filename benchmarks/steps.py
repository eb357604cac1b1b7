"""How long a step of each graph of a version takes: batches of 1 to 16 rows, and a prompt chunk.

Comes in: an exported version with two graphs. Goes out: a row of milliseconds for each kind of
step. No server takes part: runners are called in this process, in turn, so that all see the same
noise.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanotriton.contract import GRAPH_FILE, Manifest
from nanotriton.runners.base import Batch
from nanotriton.runners.graphs import GraphUse
from nanotriton.runners.ort import OrtRunner

BATCHES = (1, 2, 4, 8, 16)
PREFILL = 128
PAST = 256  # tokens that a sequence has when a step is timed


@dataclass(frozen=True, slots=True)
class StepTime:
    """Median milliseconds of a step by both graphs, and the median ratio of pairs of them."""

    kind: str
    num_tokens: int
    main_ms: float
    decode_ms: float
    ratio: float


def measure_steps(folder: Path, rounds: int, num_threads: int) -> list[StepTime]:
    """Time model.onnx and the decode graph on the same steps, in turn.

    Raises ValueError when the version has one graph only.
    """
    manifest = Manifest.load(folder)
    if manifest.decode_graph is None:
        raise ValueError(
            f"{folder} has one graph, of precision {manifest.precision}: export it again with "
            "--precision auto"
        )
    files = (GRAPH_FILE, manifest.decode_graph.file)
    runners = [OrtRunner(folder, max(BATCHES), num_threads, GraphUse(only=name)) for name in files]
    past = min(PAST, manifest.context // 2)
    batches = [("decode", decode_batch(num_rows, past)) for num_rows in BATCHES]
    batches.append(("prefill", prefill_batch(min(PREFILL, manifest.context))))
    return [_time(kind, batch, runners, rounds) for kind, batch in batches]


def _time(kind: str, batch: Batch, runners: list[OrtRunner], rounds: int) -> StepTime:
    times = np.empty((rounds, len(runners)))
    for runner in runners:
        runner.run(batch)
    for index in range(rounds):
        for column, runner in enumerate(runners):
            started = time.perf_counter()
            runner.run(batch)
            times[index, column] = (time.perf_counter() - started) * 1e3
    main_ms, decode_ms = np.median(times, axis=0).tolist()
    ratio = float(np.median(times[:, 1] / times[:, 0]))
    return StepTime(kind, batch.input_ids.size, main_ms, decode_ms, ratio)


def decode_batch(num_rows: int, past: int) -> Batch:
    """A step of one token for so many sequences, each with `past` tokens."""
    lengths = np.full(num_rows, past, np.int32)
    return Batch(0, np.ones((num_rows, 1), np.int64), lengths, np.arange(num_rows))


def prefill_batch(num_tokens: int) -> Batch:
    """The first tokens of a prompt."""
    ids = np.ones((1, num_tokens), np.int64)
    return Batch(0, ids, np.zeros(1, np.int32), np.array([num_tokens - 1]))
