"""The engine's own process with a clock around the runtime: when each of its runs began and ended.

    python -m benchmarks.stopwatch TIMES.json FOLDER --socket PATH [limits]

Comes in: the arguments of `nanotriton.engine.process`. Goes out: TIMES.json, once it has ended: a
row for each run, its begin and end by the clock that every process of the machine reads alike, then
both by the processor time of the engine's thread.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import onnxruntime as ort

from nanotriton.engine import process


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until stdin ends, then write the times."""
    path, *words = sys.argv[1:] if argv is None else argv
    runs: list[tuple[float, float, float, float]] = []
    run = ort.InferenceSession.run_with_iobinding

    def timed_run(session: ort.InferenceSession, binding: ort.IOBinding) -> None:
        began_s, began_cpu_s = time.monotonic(), time.thread_time()
        run(session, binding)
        runs.append((began_s, time.monotonic(), began_cpu_s, time.thread_time()))

    ort.InferenceSession.run_with_iobinding = timed_run
    try:
        return process.main(words)
    finally:
        Path(path).write_text(json.dumps(runs))


if __name__ == "__main__":
    sys.exit(main())
