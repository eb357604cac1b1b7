"""Real servers for tests: the demo model exported, `nanotriton serve` on free ports."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients import CompletionClient
from export.__main__ import main as export
from nanotriton.engine.client import EngineClient
from nanotriton.engine.protocol import socket_path
from nanotriton.watchdog import find_stubs

ROOT = Path(__file__).parent.parent
READY_TIMEOUT_S = 90.0


# Less parity text than usual: that the figures hold is export's own tests' matter.
QUICK = ("--tokens", "512", "--min-top1", "0.9")


def export_demo(folder: Path, precision: str, *parity: str) -> Path:
    """Export the committed demo checkpoint into a new repository."""
    repository = folder / "repository"
    command = ["all", str(ROOT / "demo"), "--repository", str(repository)]
    assert export([*command, "--precision", precision, *(parity or QUICK)]) == 0
    return repository


@dataclass
class RunningServer:
    """A `nanotriton serve` of the test's own, on free ports."""

    process: subprocess.Popen[str]
    repository: Path
    http_port: int
    grpc_port: int
    metrics_port: int
    log_path: Path

    def client(self, protocol: str = "grpc", **options: Any) -> CompletionClient:
        """A client for one of its fronts."""
        port = self.grpc_port if protocol == "grpc" else self.http_port
        return CompletionClient(f"localhost:{port}", protocol, **options)

    @property
    def triton_pid(self) -> int:
        """Process id of the tritonserver under it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    @property
    def stubs(self) -> dict[str, int]:
        """Process id of each python model."""
        return {model: pid for pid, model in find_stubs(self.triton_pid).items()}

    @property
    def engine_pid(self) -> int:
        """Process id of the engine."""
        engine = self.engine()
        try:
            engine.wait_ready(30)
            return int(engine.stats()["pid"])
        finally:
            engine.close()

    def engine(self) -> EngineClient:
        """A connection of the test's own to the engine behind both doors."""
        return EngineClient(socket_path(self.repository, 1, self.triton_pid))

    def log(self) -> str:
        """Everything that was printed so far."""
        return self.log_path.read_text(errors="replace")

    def stop(self) -> int:
        """End it as a user would; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start_server(repository: Path, log_path: Path, *words: str) -> RunningServer:
    """Start `nanotriton serve WORDS` and wait until it says that it is ready."""
    http_port, grpc_port, metrics_port = free_ports(3)
    command = [sys.executable, "-m", "nanotriton", "serve", "--model-repository", str(repository)]
    ports = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    flags = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [*command, *flags, *words], stdout=log, stderr=log, text=True, cwd=ROOT
        )
    server = RunningServer(process, repository, http_port, grpc_port, metrics_port, log_path)
    wait_until(lambda: "ready after" in server.log() or process.poll() is not None, READY_TIMEOUT_S)
    assert process.poll() is None, server.log()
    return server


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_until(is_true: Callable[[], bool], timeout_s: float) -> float:
    """Wait for something; seconds that it took. Fails when it doesn't come."""
    started = time.monotonic()
    while not is_true():
        assert time.monotonic() - started < timeout_s, f"nothing after {timeout_s:g} s"
        time.sleep(0.05)
    return time.monotonic() - started
