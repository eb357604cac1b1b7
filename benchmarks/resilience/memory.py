"""The memory of a running server's processes over time: does it grow?

Comes in: a model repository that a server on this machine serves. Goes out: for each process its
resident memory at the end and how fast it grew, from samples taken by a thread. Knows nothing of
what the server was asked meanwhile.
"""

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanotriton.engine.client import EngineClient
from nanotriton.engine.protocol import newest_socket
from nanotriton.watchdog import find_stubs

PAGE_BYTES = 4096
# The first part fills slots, caches and allocators; growth is what comes after.
WARM_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Growth:
    """Resident memory of one process; the slope is over the samples' second half."""

    process: str
    first_mb: float
    last_mb: float
    slope_mb_per_min: float


class MemoryWatch:
    """Samples every process of the server that serves `repository`, until it is closed."""

    def __init__(self, repository: Path, every_s: float) -> None:
        self.engine = EngineClient(newest_socket(repository))
        self.engine.wait_ready(10)
        self._pids = _processes(int(self.engine.stats()["pid"]))
        self._every_s = every_s
        self._samples: list[list[float]] = []
        self._times: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> list[Growth]:
        """What was seen; raises OSError when a process is gone or was started anew."""
        self._stopping.set()
        self._thread.join()
        self.engine.close()
        self._sample()
        minutes = np.array(self._times) / 60
        samples = np.array(self._samples)  # (times, processes)
        late = minutes >= minutes[0] + WARM_SHARE * (minutes[-1] - minutes[0])
        slopes = np.polyfit(minutes[late], samples[late], 1)[0]
        return [
            Growth(name, *map(float, (samples[0, column], samples[-1, column], slopes[column])))
            for column, name in enumerate(self._pids)
        ]

    def _run(self) -> None:
        with suppress(FileNotFoundError):  # `close` meets it too, and says so
            self._sample()
            while not self._stopping.wait(self._every_s):
                self._sample()

    def _sample(self) -> None:
        self._times.append(time.monotonic())
        self._samples.append([_resident_mb(pid) for pid in self._pids.values()])


def _processes(engine_pid: int) -> dict[str, int]:
    """The engine, tritonserver above it, and tritonserver's models, by name."""
    server_pid = _parent(_parent(engine_pid))  # over the stub of the model `gpt`
    stubs = {model: pid for pid, model in sorted(find_stubs(server_pid).items())}
    return {"engine": engine_pid, "tritonserver": server_pid, **stubs}


def _parent(pid: int) -> int:
    after_name = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1]
    return int(after_name.split()[1])


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6
