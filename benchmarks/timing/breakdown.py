"""What a step of the engine spends where: graph, runner, sampling, scheduling, text, messages.

Comes in: an exported version. Goes out: a row for each batch size, way of sampling and part. The
engine's real process serves a client over its socket with a clock around its parts
(`benchmarks.timing.stopwatch`); steps count while every sequence of the batch decodes.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing.stopwatch import PARTS
from nanotriton.engine.client import EngineClient
from nanotriton.engine.events import Event, Failure, is_final
from nanotriton.engine.request import Settings
from nanotriton.manifest import Manifest

BATCHES = (1, 8, 32)
PROMPT = 128
NUM_TOKENS = 96  # of which a third goes by until the last of 32 prompts has entered
WAYS: Mapping[str, Settings] = MappingProxyType(
    {
        "greedy": Settings(NUM_TOKENS, ignore_eos=True),
        "sampled": Settings(
            NUM_TOKENS, temperature=0.8, top_k=40, top_p=0.95, seed=1, ignore_eos=True
        ),
    }
)
ROOT = Path(__file__).parent.parent.parent  # where `-m` finds the engine's process
START_S, ANSWER_S = 60.0, 300.0


STEP = "step"  # all parts together


@dataclass(frozen=True, slots=True)
class Part:
    """Medians over steps: what a part takes, what of it the engine's thread computes, its share.

    The rest of the time it waits: for the runtime's other threads in the graph, elsewhere for the
    processor, when others want it too.
    """

    way: str
    batch: int
    part: str
    num_steps: int
    ms: float
    cpu_ms: float
    share: float


class _Watch:
    """When each request of a batch began and ended, by the client's thread."""

    def __init__(self, batch: int) -> None:
        self.first_s: dict[int, float] = {}
        self.last_s: dict[int, float] = {}
        self.failures: list[Failure] = []
        self._batch = batch
        self._done = threading.Event()

    def note(self, event: Event) -> None:
        number, now_s = event.key[1], time.monotonic()
        self.first_s.setdefault(number, now_s)
        if isinstance(event, Failure):
            self.failures.append(event)
        if is_final(event):
            self.last_s[number] = now_s
            if len(self.last_s) == self._batch:
                self._done.set()

    def wait(self) -> None:
        """Until all have ended; raises what failed."""
        if not self._done.wait(ANSWER_S):
            raise TimeoutError(f"the engine did not answer within {ANSWER_S:g} s")
        if self.failures:
            raise self.failures[0].error


def measure_breakdown(
    folder: Path, num_threads: int, num_rounds: int, batches: Sequence[int] = BATCHES
) -> list[Part]:
    """Batches in turn, `num_rounds` times; rows in the order of WAYS, batches and parts."""
    vocab_size = Manifest.load(folder).vocab_size
    random = np.random.default_rng(0)
    windows: dict[tuple[str, int], list[tuple[float, float]]] = {
        (way, batch): [] for way in WAYS for batch in batches
    }
    with tempfile.TemporaryDirectory(prefix="nt-") as temporary:  # a socket's path must be short
        times = Path(temporary, "times.json")
        with _engine(folder, times, num_threads) as client:
            for number in range(num_rounds + 1):  # the first one warms up
                for (way, batch), found in windows.items():
                    prompts = random.integers(0, vocab_size, (batch, PROMPT)).tolist()
                    window = _decode(client, prompts, WAYS[way])
                    if number:
                        found.append(window)
        recorded = {name: np.array(one) for name, one in json.loads(times.read_text()).items()}
    return [
        row for (way, batch), found in windows.items() for row in _rows(way, batch, recorded, found)
    ]


def _decode(
    client: EngineClient, prompts: Sequence[list[int]], settings: Settings
) -> tuple[float, float]:
    """From when the last of these requests had begun to when the first had ended, in seconds."""
    watch = _Watch(len(prompts))
    for prompt in prompts:
        client.submit(prompt, settings, watch.note)
    watch.wait()
    return max(watch.first_s.values()), min(watch.last_s.values())


def _rows(
    way: str,
    batch: int,
    recorded: Mapping[str, NDArray[np.float64]],
    windows: Sequence[tuple[float, float]],
) -> list[Part]:
    """Steps from the end of one run to the end of the next, within the windows."""
    ended_s = recorded["ended_s"]
    is_inside = np.any(
        [(ended_s[:-1] >= start) & (ended_s[1:] <= end) for start, end in windows], axis=0
    )
    wall_ms, cpu_ms = (recorded[name][1:][is_inside] * 1e3 for name in ("wall_s", "cpu_s"))
    step_ms = wall_ms.sum(axis=1)
    parts = {STEP: (step_ms, cpu_ms.sum(axis=1))}
    parts |= {part: (wall_ms[:, at], cpu_ms[:, at]) for at, part in enumerate(PARTS)}
    return [
        Part(
            way,
            batch,
            part,
            len(step_ms),
            float(np.median(wall)),
            float(np.median(cpu)),
            float(np.median(wall / step_ms)),
        )
        for part, (wall, cpu) in parts.items()
    ]


@contextmanager
def _engine(folder: Path, times: Path, num_threads: int) -> Iterator[EngineClient]:
    """A client of an engine process that writes `times` when it ends."""
    socket = times.with_name("engine.sock")
    words = [times, folder.resolve(), "--socket", socket, "--threads", num_threads]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.timing.stopwatch", *map(str, words)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        ready = json.loads(process.stdout.readline() or "{}")
        if "ready" not in ready:
            raise ValueError(ready.get("error", "the engine's process ended before it was ready"))
        client = EngineClient(socket)
        client.wait_ready(START_S)
        yield client
        client.close()
    finally:
        process.stdin.close()  # it ends with that
        process.wait()
        process.stdout.close()
