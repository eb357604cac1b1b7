"""A version and this machine in, the engine's settings that are fastest here out.

Steps of the real model are timed, candidates in turn, so that all see the same noise. Of several
that are nearly as good the smallest chunk is taken, for which streams wait less, and the most slots
that memory has room for, in which more requests run than wait, and more beginnings are kept. The
fewest threads are taken that lose little: Triton and the gateway need cores too, and a small model
is hardly faster with two. Knows nothing of the engine.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime

from nanotriton.contract import GRAPH_FILE
from nanotriton.errors import RunnerError
from nanotriton.machine import this_machine
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch
from nanotriton.runners.graphs import DETERMINISTIC, GraphUse
from nanotriton.runners.ort import OrtRunner, slots_within
from nanotriton.runners.timing import Timing, decode_batch, prefill_batch, time_steps
from nanotriton.tuned import Choice, Tuned

NEARLY = 0.95  # of the best figure: as good as it, with less
NEARLY_ALONE = 0.85  # the same of threads, which are timed on cores that nobody else uses
ROUNDS = (10, 200)  # of a step, at least and at most
MAX_NOISE = 0.2  # between figures of even and odd rounds; above it nothing was measured
SMALL_ROWS = (1, 2, 3, 4, 6, 8, 12, 16)
CHUNKS = (32, 64, 128, 256, 512)
SLOTS = (4, 8, 16, 32, 64, 128)
CACHE_SHARE = 0.5  # of the memory that is free, at most for KV slots
NUM_STAGES = 4

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tuning:
    """One version's folder, about how long to measure, and where to tell how it goes."""

    folder: Path
    seconds: float
    progress: Progress

    def measure(self) -> Tuned:
        """The choices that the noise allowed; raises ManifestError or RunnerError."""
        manifest = Manifest.load(self.folder)
        machine = this_machine()
        found = {"threads": self._choose_threads(manifest, machine.num_cores)}
        threads = found["threads"].value if found["threads"] else machine.num_cores
        if manifest.decode_graph is not None:
            file = manifest.decode_graph.file
            found["max_decode_rows"] = self._choose_rows(manifest, file, threads)
        found["prefill_chunk"] = self._choose_chunk(manifest, threads)
        found["max_slots"] = self._choose_slots(manifest, threads)
        choices = {name: choice for name, choice in found.items() if choice}
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Tuned(machine.cpu, machine.num_cores, onnxruntime.__version__, now, choices)

    def _choose_threads(self, manifest: Manifest, num_cores: int) -> Choice | None:
        candidates = thread_counts(num_cores)
        runners = [OrtRunner(self.folder, 8, number) for number in candidates]
        batches = [decode_batch(rows, manifest.context) for rows in (1, 8)]
        batches.append(prefill_batch(min(128, manifest.context)))

        def figures(timings: Sequence[Timing]) -> dict[str, float]:
            """The geometric mean over the steps."""
            ratios = [[one.ratio(at) for one in timings] for at in range(len(candidates))]
            means = [float(np.exp(np.log(one).mean())) for one in ratios]
            return dict(zip(map(str, candidates), means, strict=True))

        unit = "times the speed of 1 thread, mean of decode 1, decode 8 and a prompt chunk"
        return self._choose("threads", unit, fewest, figures, self._time(runners, batches))

    def _choose_rows(self, manifest: Manifest, graph_file: str, threads: int) -> Choice | None:
        uses = (DETERMINISTIC, GraphUse(only=graph_file))
        runners = [OrtRunner(self.folder, max(SMALL_ROWS), threads, use) for use in uses]
        batches = [decode_batch(rows, manifest.context) for rows in SMALL_ROWS]

        def figures(timings: Sequence[Timing]) -> dict[str, float]:
            return {str(one.num_tokens): one.ratio(1) for one in timings}

        unit = f"times the speed of {GRAPH_FILE} at so many rows"
        timings = self._time(runners, batches)
        return self._choose("max_decode_rows", unit, last_gain, figures, timings)

    def _choose_chunk(self, manifest: Manifest, threads: int) -> Choice | None:
        chunks = [chunk for chunk in CHUNKS if chunk <= manifest.context] or [manifest.context]
        runner = OrtRunner(self.folder, 1, threads, DETERMINISTIC)
        timings = self._time([runner], [prefill_batch(chunk) for chunk in chunks])
        unit = "prompt tokens/s"
        return self._choose("prefill_chunk", unit, smallest, speeds, timings)

    def _choose_slots(self, manifest: Manifest, threads: int) -> Choice | None:
        room = slots_within(int(free_memory() * CACHE_SHARE), manifest)
        slots = [number for number in SLOTS if number <= room] or [room]
        runner = OrtRunner(self.folder, slots[-1], threads, DETERMINISTIC)
        batches = [decode_batch(rows, manifest.context) for rows in slots]
        unit = "tokens/s when so many decode"
        return self._choose("max_slots", unit, largest, speeds, self._time([runner], batches))

    def _choose(
        self,
        name: str,
        unit: str,
        pick: Callable[[Mapping[str, float]], int],
        figures_of: Callable[[Sequence[Timing]], dict[str, float]],
        timings: Sequence[Timing],
    ) -> Choice | None:
        """None when the figures don't repeat themselves: then the default stays."""
        figures = figures_of(timings)
        even, odd = (figures_of([one.half(which) for one in timings]) for which in (0, 1))
        noise = max(abs(even[key] / odd[key] - 1) for key in figures)
        if noise > MAX_NOISE:
            self.progress(
                f"{name} keeps its default: figures of even and odd rounds lie up to {noise:.0%} "
                "apart; tune again when the machine is quiet"
            )
            return None
        rounded = {key: round(value, 3) for key, value in figures.items()}
        return Choice(pick(figures), unit, rounded, round(noise, 3))

    def _time(self, runners: Sequence[OrtRunner], batches: Sequence[Batch]) -> list[Timing]:
        """As many rounds of every step as fit into this stage's share of the time."""
        time_steps(runners, batches, 1)  # the first ones bind
        started = perf_counter()
        time_steps(runners, batches, 1)
        cost = (perf_counter() - started) / 2
        rounds = int(np.clip(self.seconds / NUM_STAGES / cost, *ROUNDS))
        return time_steps(runners, batches, rounds)


def speeds(timings: Sequence[Timing]) -> dict[str, float]:
    """Tokens a second of the only runner, by the tokens of a step."""
    return {str(one.num_tokens): one.tokens_s(0) for one in timings}


def thread_counts(num_cores: int) -> list[int]:
    """1, 2, 4, ... and the number of cores."""
    powers = [1 << bit for bit in range(num_cores.bit_length()) if 1 << bit < num_cores]
    return [*powers, num_cores]


def smallest(figures: Mapping[str, float], nearly: float = NEARLY) -> int:
    """The smallest candidate whose figure is nearly the best."""
    best = max(figures.values())
    return min(int(name) for name, figure in figures.items() if figure >= nearly * best)


def fewest(figures: Mapping[str, float]) -> int:
    """The smallest candidate that loses little of the best figure."""
    return smallest(figures, NEARLY_ALONE)


def largest(figures: Mapping[str, float]) -> int:
    """The largest candidate whose figure is nearly the best."""
    best = max(figures.values())
    return max(int(name) for name, figure in figures.items() if figure >= NEARLY * best)


def last_gain(ratios: Mapping[str, float]) -> int:
    """The largest number of rows up to which the second graph is always faster; 0: it never is."""
    last = 0
    for rows, ratio in ratios.items():
        if ratio <= 1:
            break
        last = int(rows)
    return last


def free_memory() -> int:
    """Bytes that new work may take without swapping; raises RunnerError where Linux isn't."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError as error:
        raise RunnerError(f"the free memory is not known ({error}): tune on Linux") from None
    values = dict(line.split(":") for line in lines)
    return int(values["MemAvailable"].split()[0]) * 1024
