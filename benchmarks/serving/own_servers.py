"""A Triton and a gateway of a measurement's own, and what they count.

Comes in: a model repository and a folder for state and logs. Goes out: their addresses, keys, the
engine's counters and where the accounts are. Knows nothing of what is asked.
"""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

READY_TIMEOUT_S = 120.0
PERIOD_S = 1.5  # longer than the page's own
LISTENING = re.compile(r"listening on http://(\S+:\d+)")
READY = re.compile(r"(ready after)")
SAMPLE = re.compile(r"^(nanotriton_\w+)\{(.*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Triton:
    """A `nanotriton serve`."""

    process: "subprocess.Popen[str]"
    grpc_url: str
    http_url: str  # HOST:PORT, as the one above
    metrics_url: str

    def settled_counters(self) -> Mapping[str, float]:
        """Its counters once they stood still; raises ValueError when they don't."""
        for _ in range(20):
            before = self._counters()
            time.sleep(PERIOD_S)
            if before and self._counters() == before:
                return before
        raise ValueError("the engine's counters move on although nothing is asked: stop who asks")

    def _counters(self) -> dict[str, float]:
        with urllib.request.urlopen(self.metrics_url, timeout=10) as response:
            text = response.read().decode()
        return {f"{name}{{{labels}}}": float(value) for name, labels, value in SAMPLE.findall(text)}


@dataclass(frozen=True, slots=True)
class Gateway:
    """A `python -m gateway serve` with its state in a folder."""

    process: "subprocess.Popen[str]"
    url: str  # HOST:PORT

    def stop(self) -> None:
        """In good order: what it knows is in its database then."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running_triton(repository: Path, folder: Path, *options: str) -> Iterator[Triton]:
    """One for a while, with more options of `nanotriton serve`."""
    http, grpc, metrics = free_ports(3)
    words = ["-m", "nanotriton", "serve", "--model-repository", str(repository)]
    ports = ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    process, _ = start([*words, *ports, *options], folder / "triton.log", READY)
    try:
        yield Triton(
            process,
            grpc_url=f"127.0.0.1:{grpc}",
            http_url=f"127.0.0.1:{http}",
            metrics_url=f"http://127.0.0.1:{metrics}/metrics",
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def start_gateway(
    backends: Sequence[str], folder: Path, *words: str, name: str = "gateway"
) -> Gateway:
    """One whose state is in the folder; the caller ends it."""
    command = ["-m", "gateway", "serve", "--port", "0", "--state", str(folder / "state")]
    behind = [word for one in backends for word in ("--backend", one)]
    process, url = start([*command, *behind, *words], folder / f"{name}.log", LISTENING)
    return Gateway(process, url)


def create_key(folder: Path, name: str, *words: str) -> str:
    """A key of the gateway whose state is in the folder."""
    state = ["--state", str(folder / "state")]
    return run("-m", "gateway", "keys", "create", "--name", name, *state, *words)


def run(*words: str) -> str:
    """What a command of ours prints; raises ValueError with its last line when it fails."""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(words[:3])} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def start(
    words: list[str], log_path: Path, mark: re.Pattern[str]
) -> "tuple[subprocess.Popen[str], str]":
    """The process once its log says so, and what it said; raises ValueError when it ends before."""
    with log_path.open("w") as log:
        process = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, text=True)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := mark.search(log_path.read_text(errors="replace")):
            return process, found[1]
        time.sleep(0.05)
    process.kill()
    last = log_path.read_text(errors="replace").strip().rpartition("\n")[2]
    raise ValueError(f"{' '.join(words[:3])} did not start: {last}")
