"""How long a step of a TensorRT plan takes: decode batches, recorded or not, and prompt chunks.

Comes in: an exported version of the runner trt. Goes out: a row of milliseconds for each kind of
step. No server takes part: two runners are called in this process, in turn, one that replays CUDA
graphs and one that launches kernel by kernel. Times are whole calls: tokens in, candidates out.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanotriton.contract import Manifest
from nanotriton.runners.base import Batch
from nanotriton.runners.trt import TrtRunner

BATCHES = (1, 2, 4, 8, 16, 32)
CHUNKS = (32, 128, 256)
PAST = 256  # tokens that a sequence has when a step is timed
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class PlanStepTime:
    """Median milliseconds of a step, and the median ratio of pairs; a chunk is never recorded."""

    kind: str
    num_tokens: int
    recorded_ms: float
    launched_ms: float
    ratio: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class PlanStepTimes:
    """What was measured, and on which GPU."""

    gpu: str
    rows: list[PlanStepTime]


def measure_plan_steps(folder: Path, rounds: int) -> PlanStepTimes:
    """Time decode steps and prompt chunks of a plan; raises RunnerError without a GPU for it."""
    manifest = Manifest.load(folder)
    runners = [TrtRunner(folder, max(BATCHES), records_decode=on) for on in (True, False)]
    past = min(PAST, manifest.context // 2)
    most = runners[0].num_slots
    batches = [("decode", _decode_batch(size, past)) for size in BATCHES if size <= most]
    chunks = sorted({min(size, manifest.context) for size in CHUNKS})
    batches += [("prefill", _prefill_batch(size)) for size in chunks]
    rows = [_time(kind, batch, runners, rounds) for kind, batch in batches]
    for runner in runners:
        runner.close()
    return PlanStepTimes(runners[0].gpu, rows)


def _time(kind: str, batch: Batch, runners: list[TrtRunner], rounds: int) -> PlanStepTime:
    times = np.empty((rounds, len(runners)))
    for index in range(-WARM_UP, rounds):
        for column, runner in enumerate(runners):
            started = time.perf_counter()
            runner.run(batch)
            if index >= 0:
                times[index, column] = (time.perf_counter() - started) * 1e3
    recorded_ms, launched_ms = np.median(times, axis=0).tolist()
    ratio = float(np.median(times[:, 0] / times[:, 1]))
    size = batch.input_ids.size
    return PlanStepTime(kind, size, recorded_ms, launched_ms, ratio, size / recorded_ms * 1e3)


def _decode_batch(num_rows: int, past: int) -> Batch:
    lengths = np.full(num_rows, past, np.int32)
    return Batch(0, np.ones((num_rows, 1), np.int64), lengths, np.arange(num_rows))


def _prefill_batch(num_tokens: int) -> Batch:
    ids = np.ones((1, num_tokens), np.int64)
    return Batch(0, ids, np.zeros(1, np.int32), np.array([num_tokens - 1]))
