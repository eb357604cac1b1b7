"""The engine's own process with a clock around the runtime: when each of its runs began and ended.

    python -m benchmarks.stopwatch TIMES.json FOLDER --socket PATH [limits]

Comes in: the arguments of `nanotriton.engine.process`. Goes out: TIMES.json, once it has ended:
pairs of seconds by the clock that every process of the machine reads alike.
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
    runs: list[tuple[float, float]] = []
    run = ort.InferenceSession.run_with_iobinding

    def timed_run(session: ort.InferenceSession, binding: ort.IOBinding) -> None:
        began_s = time.monotonic()
        run(session, binding)
        runs.append((began_s, time.monotonic()))

    ort.InferenceSession.run_with_iobinding = timed_run
    try:
        return process.main(words)
    finally:
        Path(path).write_text(json.dumps(runs))


if __name__ == "__main__":
    sys.exit(main())
