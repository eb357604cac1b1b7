"""Starts the engine's process, notices its end, and starts it again.

Comes in: the command's arguments. Goes out: a process that is there again a moment after it died.
Knows nothing of what the process does.
"""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO

from nanotriton.errors import ServerError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
STABLE_S = 30.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.1


class EngineSupervisor:
    """Keeps one `python -m nanotriton.engine.process` alive from a thread of its own."""

    def __init__(self, arguments: Sequence[str], log: Callable[[str], None]) -> None:
        self._command = [sys.executable, "-m", "nanotriton.engine.process", *arguments]
        self._log = log
        self.num_restarts = 0
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the engine and wait until its model is loaded; raises ServerError with why not."""
        self._launch()
        self._thread = threading.Thread(target=self._watch, name="engine-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the engine, also one that is just starting, and don't start it again.

        Nothing of it is left when this returns: the next engine will listen on the same path.
        """
        self._stopping.set()
        while self._thread and self._thread.is_alive():
            if self._process:
                self._process.terminate()
            self._thread.join(POLL_S)
        if self._process:
            self._end(self._process)

    def _launch(self) -> None:
        """Start a process and read its first line; raises ServerError when it isn't ready."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        answer = _first_line(self._process.stdout)
        if "ready" not in answer:
            self._end(self._process)
            raise ServerError(f"the engine did not start: {answer.get('error', 'see the log')}")

    def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            assert self._process is not None
            started = time.monotonic()
            code = self._process.wait()
            if time.monotonic() - started > STABLE_S:
                pause_s = FIRST_PAUSE_S
            self._end(self._process)
            if self._stopping.is_set():
                return
            self._log(f"the engine process ended with code {code}; starting it again")
            while True:
                if self._stopping.wait(pause_s):
                    return
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                try:
                    self._launch()
                    self.num_restarts += 1
                    break
                except (ServerError, OSError) as error:
                    self._log(f"{error}; the next try is in {pause_s:g} s")

    def _end(self, process: subprocess.Popen[str]) -> None:
        """Close its stdin, which asks it to end, and make sure that it did."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def _first_line(stream: IO[str] | None) -> dict[str, object]:
    assert stream is not None
    line = stream.readline()
    try:
        answer: dict[str, object] = json.loads(line)
    except ValueError:
        return {"error": f"it said {line.strip()!r}"} if line.strip() else {}
    return answer
