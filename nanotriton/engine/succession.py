"""Which engine streams are sent to, while one version of the model takes another's place.

Triton loads a version beside the one that serves, and ends the former when its own requests are
done. Streams come in by another model, of which that knows nothing: so `NewestEngine` turns to the
newest version that listens within FOLLOW_S, and `wait_unused` keeps an engine until what began on
it has ended. A version that is taken back is left in the same way.

Comes in: a repository and tritonserver's process id. Goes out: all it takes to ask an engine for a
text. Knows nothing of Triton.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nanotriton.contract import ENGINE_MODEL
from nanotriton.engine.client import EngineClient
from nanotriton.engine.protocol import sibling_sockets, socket_path
from nanotriton.errors import NanotritonError, Unavailable
from nanotriton.infill import Markers
from nanotriton.manifest import Manifest, versions_of
from nanotriton.tokenizer import Tokenizer, load_tokenizer

FOLLOW_S = 0.25
ANSWER_TIMEOUT_S = 10.0
# Longer by far than a stream model takes to notice another engine and to read its tokenizer.
UNUSED_S = 3.0
LONGEST_STREAM_S = 120.0
POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version whose engine listens, and what prompts for it are made with."""

    folder: Path
    tokenizer: Tokenizer
    context: int
    markers: Markers | None
    client: EngineClient

    @classmethod
    def open(cls, folder: Path, path: Path) -> "ServedVersion":
        """Raises NanotritonError when the folder can't be read or nobody answers at the path."""
        tokenizer, manifest = load_tokenizer(folder), Manifest.load(folder)
        special_tokens, order = tokenizer.special_tokens, manifest.infill_order
        markers = Markers.of(special_tokens, order) if manifest.infill else None
        client = EngineClient(path)
        try:
            client.wait_ready(ANSWER_TIMEOUT_S)
        except Unavailable:
            client.close()
            raise
        return cls(folder, tokenizer, manifest.context, markers, client)


class NewestEngine:
    """`current` is the version to ask now; a thread of its own follows the newest one."""

    def __init__(
        self, repository: Path, server_pid: int, timeout_s: float, log: Callable[[str], None]
    ) -> None:
        """Raises NanotritonError when no engine listens in time."""
        self._repository = repository
        self._server_pid = server_pid
        self._log = log
        self._retired: list[tuple[float, EngineClient]] = []
        self._closing = threading.Event()
        self.current = self._wait_first(timeout_s)
        self._thread = threading.Thread(target=self._follow_on, name="newest-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave every engine once what was asked of it has ended: Triton waits for no stream."""
        self._closing.set()
        self._thread.join()
        clients = [self.current.client, *(client for _, client in self._retired)]
        deadline = time.monotonic() + LONGEST_STREAM_S
        while any(one.num_running for one in clients) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for client in clients:
            client.close()

    def _wait_first(self, timeout_s: float) -> ServedVersion:
        deadline = time.monotonic() + timeout_s
        while (folder := self._listening()) is None:
            if time.monotonic() > deadline:
                raise Unavailable(f"no engine of {self._repository} listens after {timeout_s:g} s")
            time.sleep(POLL_S)
        return ServedVersion.open(folder, self._path(folder))

    def _follow_on(self) -> None:
        while not self._closing.wait(FOLLOW_S):
            self._close_unused()
            folder = self._listening()
            if folder is None or folder == self.current.folder:
                continue
            try:
                newest = ServedVersion.open(folder, self._path(folder))
            except (NanotritonError, OSError) as error:  # the former one goes on
                self._log(f"version {folder.name} can't be asked: {error}")
                continue
            self._retired.append((time.monotonic(), self.current.client))
            self.current = newest

    def _close_unused(self) -> None:
        """Whoever read `current` just before it changed has sent its request by then."""
        now = time.monotonic()
        for entry in [*self._retired]:
            since, client = entry
            if now - since > UNUSED_S and not client.num_running:
                self._retired.remove(entry)
                client.close()

    def _listening(self) -> Path | None:
        """Folder of the newest version that has an engine in this server."""
        versions = reversed(versions_of(self._repository))
        folders = (self._repository / ENGINE_MODEL / str(version) for version in versions)
        return next((one for one in folders if self._path(one).exists()), None)

    def _path(self, folder: Path) -> Path:
        return socket_path(self._repository, int(folder.name), self._server_pid)


def wait_unused(client: EngineClient, path: Path) -> None:
    """Wait for what was begun on the engine at `path`, before it is ended.

    If another takes its place, what comes until everybody knows that is waited for too; else the
    server ends and takes nothing new. Gives up after LONGEST_STREAM_S, or when the engine doesn't
    answer.
    """
    unused_since = started = time.monotonic()
    while time.monotonic() - started < LONGEST_STREAM_S:
        try:
            stats = client.stats()
        except NanotritonError:
            return
        if stats["num_running"] or stats["num_waiting"]:
            unused_since = time.monotonic()
        elif not sibling_sockets(path) or time.monotonic() - unused_since > UNUSED_S:
            return
        time.sleep(POLL_S)
