"""A server of somebody else's, run as a worker: started, waited for, ended when stdin ends.

Comes in: a command, its environment and where it will answer. Goes out: {"versions", "url",
"protocol"} on stdout once it does, or {"error"} (`benchmarks.peers.serving`). Runs inside the
peer's own virtual environment. Knows nothing of what is served.
"""

import importlib.metadata
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.peers.serving import take_stdout

READY_TIMEOUT_S = 300.0
LEAVING_S = 8.0


@dataclass(frozen=True, slots=True)
class ForeignServer:
    """What to run; `protocol` is how it is spoken to, a key of `benchmarks.peers.servers`."""

    words: Sequence[str]
    environment: Mapping[str, str]
    url: str  # HOST:PORT
    health_path: str
    protocol: str
    packages: Sequence[str]


def serve_foreign(server: ForeignServer) -> int:
    """Run it until stdin ends, or until it ends itself; the exit status."""
    replies = take_stdout()
    process = subprocess.Popen(server.words, env=dict(server.environment), stdin=subprocess.DEVNULL)

    def end() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LEAVING_S)
        except subprocess.TimeoutExpired:
            process.kill()

    def end_with_stdin() -> None:
        sys.stdin.read()
        end()

    threading.Thread(target=end_with_stdin, daemon=True).start()
    told: dict[str, object]
    if _wait_ready(process, server):
        versions = {name: importlib.metadata.version(name) for name in server.packages}
        told = {"versions": versions, "url": server.url, "protocol": server.protocol}
    else:
        end()
        told = {"error": f"not ready within {READY_TIMEOUT_S:g} s, or it ended: see its log"}
    print(json.dumps(told), file=replies, flush=True)
    return process.wait()


def _wait_ready(process: "subprocess.Popen[bytes]", server: ForeignServer) -> bool:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{server.url}{server.health_path}", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    return False


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
