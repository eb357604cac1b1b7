"""A peer's process, seen from the measurement: start it, ask it by lines, end it.

Comes in: a command, or a peer, its interpreter and a checkpoint. Goes out: its messages, and what
each request took by the peer's own clock. Whatever goes wrong is a PeerError of one line.
"""

import json
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import HERE, Peer, PeerError

ROOT = HERE.parent.parent
OPENING_S, ANSWERING_S = 600.0, 300.0  # converting a checkpoint takes a minute or two
LEAVING_S = 10.0
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """What every peer is opened with."""

    num_threads: int
    max_sequences: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Seconds to a lone prompt's first token, seconds to the end, and each prompt's new tokens."""

    first_s: float
    seconds: float
    tokens: list[list[int]]


class Process:
    """A command that says JSON lines on stdout; what else it prints goes to the log."""

    def __init__(self, words: Sequence[str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("w") as file:
            self._process = subprocess.Popen(
                words,
                cwd=ROOT,  # the workers' modules are found from there
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,  # a group of its own, to be ended with its children
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def write(self, message: dict[str, Any]) -> None:
        """Send a line; raises PeerError when nobody reads any more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._last_words()) from None

    def read(self, timeout_s: float) -> dict[str, Any]:
        """Its next line; raises PeerError when that is an error, late, or the process ended."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout_s)[0]:
            raise PeerError(f"no answer within {timeout_s:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise PeerError(message["error"])
        return message

    def close(self) -> None:
        """Let it end with its stdin; what it leaves behind, workers of a library, is killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(LEAVING_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def _last_words(self) -> str:
        """Why it ended, as far as it said."""
        status = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"ended with status {status}: {lines[-1][:300] if lines else 'it said nothing'}"


class Worker:
    """A peer that is ready; what it prints goes to PRECISION.log in its own folder under `work`."""

    def __init__(
        self, peer: Peer, python: Path, checkpoint: Path, work: Path, limits: Limits
    ) -> None:
        self.peer = peer
        folder = work / peer.engine
        words = command(
            peer.module,
            python,
            checkpoint=checkpoint,
            folder=folder,
            precision=peer.precision,
            limits=limits,
        )
        self._process = Process(words, folder / f"{peer.precision}.log")
        try:
            self.versions: dict[str, str] = self._process.read(OPENING_S)["versions"]
        except PeerError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, prompts: list[list[int]], num_new: int) -> Answer:
        """Let it continue prompts; raises PeerError when it fails or takes too long."""
        self._process.write({"prompts": prompts, "num_new": num_new})
        return Answer(**self._process.read(ANSWERING_S))

    def resident_mib(self) -> int:
        """Memory that it holds at this moment."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * 4096 // MIB

    def close(self) -> None:
        """End the process."""
        self._process.close()


def command(
    module: str, python: Path, *, checkpoint: Path, folder: Path, precision: str, limits: Limits
) -> list[str]:
    """The words that start a worker (`benchmarks.peers.serving`)."""
    numbers = (limits.num_threads, limits.max_sequences, limits.max_tokens)
    words = (python, "-m", module, checkpoint.resolve(), folder.resolve(), precision, *numbers)
    return [str(word) for word in words]
