"""One peer's process, seen from the measurement: start it, ask it, end it.

Comes in: a peer, its interpreter, a checkpoint. Goes out: what each request took by the peer's own
clock. Whatever goes wrong is a PeerError of one line.
"""

import json
import select
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import HERE, Peer, PeerError

ROOT = HERE.parent.parent
OPENING_S, ANSWERING_S = 600.0, 300.0  # converting a checkpoint takes a minute or two
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


class Worker:
    """A peer that is ready; what it prints goes to LOG.txt in its own folder under `work`."""

    def __init__(
        self, peer: Peer, python: Path, checkpoint: Path, work: Path, limits: Limits
    ) -> None:
        self.peer = peer
        folder = work / peer.engine
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / f"{peer.precision}.log"
        numbers = (limits.num_threads, limits.max_sequences, limits.max_tokens)
        words = [python, "-m", peer.module, checkpoint.resolve(), folder.resolve(), peer.precision]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*map(str, words), *map(str, numbers)],
                cwd=ROOT,  # the worker's module is found from there
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self.versions: dict[str, str] = self._read(OPENING_S)["versions"]
        except PeerError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, prompts: list[list[int]], num_new: int) -> Answer:
        """Let it continue prompts; raises PeerError when it fails or takes too long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"prompts": prompts, "num_new": num_new}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._last_words()) from None
        return Answer(**self._read(ANSWERING_S))

    def resident_mib(self) -> int:
        """Memory that it holds at this moment."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * 4096 // MIB

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _read(self, timeout_s: float) -> dict[str, Any]:
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

    def _last_words(self) -> str:
        """Why it ended, as far as it said."""
        status = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"ended with status {status}: {lines[-1][:300] if lines else 'it said nothing'}"
