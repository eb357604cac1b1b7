"""The engine's own process with a clock around its parts: where each of its steps spent its time.

    python -m benchmarks.timing.stopwatch TIMES.json FOLDER --socket PATH [limits]

Comes in: the arguments of `nanotriton.engine.process`. Goes out: TIMES.json, once it has ended: for
each run of the graph when it ended, by the clock that every process of the machine reads alike, and
the seconds of each part since the run before, by that clock and by the processor time of the
engine's thread. A part's time is its own: what another part does within it counts there.
"""

import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import onnxruntime as ort

from nanotriton.engine import core, process
from nanotriton.engine.meter import Meter
from nanotriton.engine.outbox import Outbox
from nanotriton.engine.scheduler import Scheduler
from nanotriton.engine.sequence import Sequence as EngineSequence
from nanotriton.runners.ort import OrtRunner

GRAPH, REST = "graph", "rest"
# Which functions each part is; what lies in none of them is the rest of the step loop.
FUNCTIONS: tuple[tuple[str, type | ModuleType, str], ...] = (
    (GRAPH, ort.InferenceSession, "run_with_iobinding"),
    ("runner", OrtRunner, "run"),  # its checks, copies and bindings
    ("scheduling", Scheduler, "plan"),
    ("scheduling", Scheduler, "commit"),
    ("sampling", core, "pick_tokens"),
    ("text", EngineSequence, "accept"),  # decoded, and looked through for its end
    ("messages", process.EngineServer, "_receive"),
    ("messages", process.EngineServer, "_send"),
    ("messages", Outbox, "flush"),
    ("metrics", Meter, "stepped"),
    ("metrics", Meter, "answered"),
)
PARTS = (*dict.fromkeys(part for part, _, _ in FUNCTIONS), REST)


class Stopwatch:
    """Times the parts of whatever runs on one thread."""

    def __init__(self) -> None:
        self.ended_s: list[float] = []
        self.wall_s: list[list[float]] = []
        self.cpu_s: list[list[float]] = []
        self._within = [PARTS.index(REST)]  # the parts under way, the innermost last
        self._marked_s, self._marked_cpu_s = time.monotonic(), time.thread_time()
        self._wall_s, self._cpu_s = [0.0] * len(PARTS), [0.0] * len(PARTS)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose own time counts for the part."""
        index = PARTS.index(part)

        @functools.wraps(function)
        def run(*args: Any, **options: Any) -> Any:
            self._mark()
            self._within.append(index)
            try:
                return function(*args, **options)
            finally:
                self._mark()
                self._within.pop()
                if part == GRAPH:
                    self._end_run()

        return run

    def _mark(self) -> None:
        """What went by since the last mark was the innermost part's."""
        now_s, now_cpu_s = time.monotonic(), time.thread_time()
        self._wall_s[self._within[-1]] += now_s - self._marked_s
        self._cpu_s[self._within[-1]] += now_cpu_s - self._marked_cpu_s
        self._marked_s, self._marked_cpu_s = now_s, now_cpu_s

    def _end_run(self) -> None:
        self.ended_s.append(self._marked_s)
        self.wall_s.append(self._wall_s)
        self.cpu_s.append(self._cpu_s)
        self._wall_s, self._cpu_s = [0.0] * len(PARTS), [0.0] * len(PARTS)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stdin ends, then write the times."""
    path, *words = sys.argv[1:] if argv is None else argv
    stopwatch = Stopwatch()
    for part, owner, name in FUNCTIONS:
        setattr(owner, name, stopwatch.timed(part, getattr(owner, name)))
    try:
        return process.main(words)
    finally:
        times = {name: getattr(stopwatch, name) for name in ("ended_s", "wall_s", "cpu_s")}
        Path(path).write_text(json.dumps(times))


if __name__ == "__main__":
    sys.exit(main())
