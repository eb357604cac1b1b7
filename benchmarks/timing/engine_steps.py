"""Steps of the engine in this process, timed: so many rows that decode, or a prompt that enters.

Comes in: an exported version. Goes out: seconds of whole steps, of scheduling, graph and sampling;
messages are left out (`benchmarks.timing.breakdown` has them). Prefix cache and speculation are
off, so that every step does what it is counted for.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.events import Failure
from nanotriton.engine.request import Request, Settings
from nanotriton.manifest import Manifest
from nanotriton.runners.ort import OrtRunner
from nanotriton.tokenizer import load_tokenizer

PROMPT = 128  # tokens that a decoding sequence began with, at the most half a context
CHUNK = 256  # tokens of the prompt that enters
NUM_STEPS = 16  # decode steps of one measurement


@dataclass(frozen=True, slots=True)
class Steps:
    """Seconds of each, the file of the graph that answered, and tokens that all rows held."""

    seconds: list[float]
    graph: str
    num_cached: int


class EngineSteps:
    """An engine of its own with `max_rows` slots."""

    def __init__(self, folder: Path, max_rows: int, num_threads: int) -> None:
        self.manifest = Manifest.load(folder)
        self.chunk = min(CHUNK, self.manifest.context - 1)
        self._random = np.random.default_rng(0)
        self._engine = Engine(
            OrtRunner(folder, max_rows, num_threads),
            load_tokenizer(folder),
            lambda: 0,
            time.perf_counter,
            EngineOptions(prefill_chunk=self.chunk, prefix_cache=False, speculation=False),
        )

    def decode(self, num_rows: int) -> Steps:
        """NUM_STEPS steps in which so many sequences get a token each."""
        context = self.manifest.context
        num_tokens = min(PROMPT, context // 2)
        for number in range(num_rows):
            self._submit(number, num_tokens, context - num_tokens)
        seconds: list[float] = []
        num_cached = 0
        while len(seconds) < NUM_STEPS:
            took = self._step()
            running = self._engine.scheduler.running
            if self._engine.last_step == "decode" and len(running) == num_rows:
                seconds.append(took)
                num_cached = sum(one.num_cached for one in running)
        for number in range(num_rows):
            self._engine.cancel((b"", number))
        return Steps(seconds, self._engine.last_graph, num_cached)

    def prefill(self) -> Steps:
        """The one step that takes a whole prompt in."""
        self._submit(0, self.chunk, 1)
        return Steps([self._step()], self._engine.last_graph, self.chunk)

    def _submit(self, number: int, num_tokens: int, max_tokens: int) -> None:
        prompt = self._random.integers(0, self.manifest.vocab_size, num_tokens).tolist()
        settings = Settings(max_tokens, ignore_eos=True)
        self._engine.submit(Request((b"", number), tuple(prompt), settings))

    def _step(self) -> float:
        started = time.perf_counter()
        events = self._engine.step()
        seconds = time.perf_counter() - started
        for event in events:
            if isinstance(event, Failure):
                raise event.error
        return seconds
