"""A real gateway process in front of a real Triton, and ways to ask it."""

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
from running import ROOT, RunningServer, wait_until

from gateway.routing.document import read_document
from gateway.routing.routes import Routes

START_TIMEOUT_S = 30.0
LISTENING = re.compile(r"listening on http://\S+:(\d+)")


@dataclass
class RunningGateway:
    """A `python -m gateway serve` of the test's own, on a port that it chose."""

    process: subprocess.Popen[str]
    port: int
    log_path: Path

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def http(self, **options: Any) -> httpx.Client:
        """A client without any manners of its own."""
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False, **options)

    def openai(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own client."""
        options = {"api_key": "none", "max_retries": 0, "timeout": 30, **options}
        return openai.OpenAI(base_url=f"{self.url}/v1", **options)

    def socket(self) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def complete(self, **body: Any) -> httpx.Response:
        """One unary request to /v1/completions."""
        with self.http() as http:
            return http.post("/v1/completions", json={"prompt": "def f(", "max_tokens": 4, **body})

    def post(self, content: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
        """Bytes as they are, to /v1/completions."""
        with self.http() as http:
            told = {"content-type": "application/json", **headers}
            return http.post("/v1/completions", content=content, headers=told)

    def log(self) -> str:
        """Everything that was printed so far."""
        return self.log_path.read_text(errors="replace")

    def terminate(self) -> None:
        """Ask it to stop, as an orchestrator does."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it; its exit code."""
        self.terminate()
        return self.process.wait(60)


def routes_to(server: RunningServer) -> Routes:
    """Routes to one backend, for services that a test makes by itself."""
    url = f"127.0.0.1:{server.grpc_port}"
    backend = {"name": "stable", "url": url, "version": "1"}
    return Routes(read_document({"backends": [backend]}), default_model="nanotriton")


def start_gateway(server_port: int, log_path: Path, *words: str) -> RunningGateway:
    """Start one in front of the Triton at that gRPC port, and wait until it listens."""
    backend = f"stable=127.0.0.1:{server_port}"
    command = [sys.executable, "-m", "gateway", "serve", "--port", "0", "--backend", backend]
    with log_path.open("w") as log:
        process = subprocess.Popen(
            [*command, "--state", str(log_path.parent / "state"), *words],
            stdout=log,
            stderr=log,
            text=True,
            cwd=ROOT,
        )
    gateway = RunningGateway(process, 0, log_path)
    wait_until(
        lambda: bool(LISTENING.search(gateway.log())) or process.poll() is not None,
        START_TIMEOUT_S,
    )
    found = LISTENING.search(gateway.log())
    assert found, gateway.log()
    gateway.port = int(found[1])
    return gateway


@contextmanager
def running_gateway(server: RunningServer, folder: Path, *words: str) -> Iterator[RunningGateway]:
    """One for a while."""
    gateway = start_gateway(server.grpc_port, folder / "log", *words)
    try:
        yield gateway
    finally:
        if gateway.process.poll() is None:
            gateway.stop()


def events(response: httpx.Response) -> list[Any]:
    """The events of a stream that has ended, "[DONE]" as text."""
    data = [line.removeprefix("data: ") for line in response.text.split("\n") if line]
    return [one if one == "[DONE]" else json.loads(one) for one in data]


def error_of(response: httpx.Response) -> dict[str, Any]:
    """What an answer says is wrong, in OpenAI's shape."""
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "Traceback" not in error["message"]
    return error
