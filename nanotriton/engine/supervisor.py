"""Starts the engine's process, notices that it ended or hangs, and starts it again.

Comes in: the command's arguments. Goes out: a process that is there again a moment after it died
or hung. What the process says on stdout, a line twice a second between its steps, is the sign that
it lives. Knows nothing of what the process does.
"""

import json
import os
import select
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import IO, Any

from nanotriton.errors import ServerError

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
STABLE_S = 30.0
STOP_TIMEOUT_S = 5.0
POLL_S = 0.1
LISTEN_S = 1.0


class EngineSupervisor:
    """Keeps one `python -m nanotriton.engine.process` alive from a thread of its own.

    One that is silent for as long as it said that a step may take, at most, is killed. `restarts`
    counts by reason: "died" or "wedged".
    """

    def __init__(self, arguments: Sequence[str], log: Callable[[str], None]) -> None:
        self._command = [sys.executable, "-m", "nanotriton.engine.process", *arguments]
        self._log = log
        self.restarts: Counter[str] = Counter(died=0, wedged=0)
        self._step_timeout_s = 0.0
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
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
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        answer = _first_line(self._process.stdout)
        self._step_timeout_s = answer.get("step_timeout_s", 0.0)
        if "ready" not in answer:
            self._end(self._process)
            raise ServerError(f"the engine did not start: {answer.get('error', 'see the log')}")

    def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            assert self._process is not None
            started = time.monotonic()
            reason = self._wait_for_end(self._process)
            if time.monotonic() - started > STABLE_S:
                pause_s = FIRST_PAUSE_S
            if reason == "wedged" and not self._stopping.is_set():
                self._process.kill()
            self._end(self._process)
            if self._stopping.is_set():
                return
            how = f"ended with code {self._process.returncode}"
            if reason == "wedged":
                how = f"ended no step in {self._step_timeout_s:g} s and was killed"
            self._log(f"the engine process {how}; starting it again")
            while True:
                if self._stopping.wait(pause_s):
                    return
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                try:
                    self._launch()
                    self.restarts[reason] += 1
                    break
                except (ServerError, OSError) as error:
                    self._log(f"{error}; the next try is in {pause_s:g} s")

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> str:
        """Listen until the process "died", or is "wedged": nothing was heard for too long.

        Silence is counted in short waits, so that a machine that slept is not taken for one.
        """
        assert process.stdout is not None
        poller = select.poll()
        poller.register(process.stdout, select.POLLIN)
        silent_s = 0.0
        while silent_s < self._step_timeout_s and not self._stopping.is_set():
            if not poller.poll(LISTEN_S * 1000):
                silent_s += LISTEN_S
            elif os.read(process.stdout.fileno(), 4096):
                silent_s = 0.0
            else:
                return "died"
        return "wedged"

    def _end(self, process: subprocess.Popen[bytes]) -> None:
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


def _first_line(stream: IO[bytes] | None) -> dict[str, Any]:
    assert stream is not None
    line = stream.readline()
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        said = line.decode(errors="replace").strip()
        return {"error": f"it said {said!r}"} if said else {}
    return answer
