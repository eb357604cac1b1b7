"""One running tritonserver: started, waited for until it completes, stopped without leftovers.

Comes in: a model repository and ports. Goes out: a server process whose two doors answer. Knows
nothing of what a model computes; nanotriton.watchdog decides what to do when something dies.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from nanotriton.canary import DOORS, check_door
from nanotriton.engine.settings import ENVIRONMENT
from nanotriton.errors import ServerError, Unavailable
from nanotriton.installation import find_installation
from nanotriton.manifest import Manifest, newest_version
from nanotriton.tracing import ENDPOINT, SERVICE, check_installed

SHM_FOLDER = Path("/dev/shm")
SHM_PREFIX = "nanotriton-"
GPU_DEVICE = Path("/dev/nvidiactl")
# What a CPU-only machine makes Triton say, as errors, though nothing is wrong.
HARMLESS = re.compile(rb"CudaDriverHelper|CUDA driver version|no pinned memory pool")
# A client that is frozen or cut off answers no ping, and its streams end: 20 s at the most.
KEEPALIVE = (
    "--grpc-keepalive-time=10000",
    "--grpc-keepalive-timeout=10000",
    "--grpc-http2-max-pings-without-data=0",
)
WITHOUT_GPU = ("--pinned-memory-pool-byte-size=0", "--allow-gpu-metrics=false")
LIBC = ctypes.CDLL(None)  # loaded here: a forked child should do as little as it can
PR_SET_PDEATHSIG = 1
POLL_S = 0.1
CANARY_TIMEOUT_S = 10.0
KILL_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What to serve and where; loopback by default, because Triton's ports are never public.

    With a `trace_url`, an OTLP/HTTP collector's, one request in `trace_rate` is traced. What
    `engine` sets outranks gpt/config.pbtxt.
    """

    repository: Path
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    address: str = "127.0.0.1"
    exit_timeout_s: int = 30
    verbose: bool = False
    trace_url: str | None = None
    trace_rate: int = 1
    engine: Mapping[str, str] = field(default_factory=dict)
    extra_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.trace_rate < 1:
            raise ServerError(f"--trace-rate is {self.trace_rate}, the least is 1: every request")
        if self.trace_url is not None:
            check_installed()
            check_url(self.trace_url)

    @property
    def http_url(self) -> str:
        """Where the HTTP front answers."""
        return f"http://{self._reachable}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """Where the gRPC front answers."""
        return f"{self._reachable}:{self.grpc_port}"

    @property
    def _reachable(self) -> str:
        return "127.0.0.1" if self.address == "0.0.0.0" else self.address


class TritonServer:
    """A tritonserver process group of ours, with shared memory regions under a name of its own."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        manifest = Manifest.load(newest_version(options.repository))
        self._prompt = manifest.canary_prompt
        self._scratch = tempfile.TemporaryDirectory(prefix="nanotriton-server-")
        self._installation = find_installation(Path(self._scratch.name))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running tritonserver."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the process ended; None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def start(self) -> None:
        """Start the process in a group of its own; raises ServerError when a port is taken."""
        options = self.options
        for name in ("http_port", "grpc_port", "metrics_port"):
            check_port(name, options.address, getattr(options, name))
        remove_stale_regions()
        self._process = subprocess.Popen(
            [*self._installation.command, *server_arguments(options)],
            env={
                **self._installation.environment,
                **tracing_environment(options),
                **engine_environment(options),
            },
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509, one call of the kernel, no lock
        )
        relay = threading.Thread(target=_relay_log, args=(self._process.stderr,), daemon=True)
        relay.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Wait until both doors complete a prompt; raises ServerError with the last reason."""
        deadline = time.monotonic() + timeout_s
        for model in DOORS:
            while True:
                try:
                    self.check(model)
                    break
                except (ServerError, Unavailable) as error:
                    if (code := self.exit_code) is not None:
                        raise ServerError(
                            f"tritonserver ended with code {code} while it started: its log above "
                            "says why"
                        ) from None
                    if time.monotonic() > deadline:
                        raise ServerError(f"not ready after {timeout_s:g} s: {error}") from None
                time.sleep(POLL_S)

    def check(self, model: str) -> None:
        """One canary completion through a door (see `nanotriton.canary.check_door`)."""
        check_door(model, self.options.http_url, self._prompt, CANARY_TIMEOUT_S)

    def stop(self) -> None:
        """Let requests under way finish, end the whole group, take its shared memory away."""
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(self.options.exit_timeout_s + KILL_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with contextlib.suppress(ProcessLookupError):  # stubs that outlived their server
                os.killpg(process.pid, signal.SIGKILL)
            self._process = None
        remove_regions(os.getpid())

    def close(self) -> None:
        """Stop, and remove what was laid out."""
        self.stop()
        self._scratch.cleanup()


def server_arguments(options: ServerOptions) -> list[str]:
    """Tritonserver's own flags; explicit model control, so that a dead model can be reloaded."""
    return [
        f"--model-repository={options.repository}",
        "--model-control-mode=explicit",
        "--load-model=*",
        f"--http-address={options.address}",
        f"--http-port={options.http_port}",
        f"--grpc-address={options.address}",
        f"--grpc-port={options.grpc_port}",
        f"--metrics-address={options.address}",
        f"--metrics-port={options.metrics_port}",
        f"--exit-timeout-secs={options.exit_timeout_s}",
        f"--backend-config=python,shm-region-prefix-name={SHM_PREFIX}{os.getpid()}-",
        *KEEPALIVE,
        *trace_arguments(options),
        *([] if options.verbose else ["--log-info=false"]),
        *([] if GPU_DEVICE.exists() else WITHOUT_GPU),
        *options.extra_arguments,
    ]


def trace_arguments(options: ServerOptions) -> list[str]:
    """What makes Triton trace, under the trace that a client's `traceparent` names."""
    if options.trace_url is None:
        return []
    settings = (
        "mode=opentelemetry",
        f"rate={options.trace_rate}",
        "level=TIMESTAMPS",
        "count=-1",
        f"opentelemetry,url={options.trace_url}",
        f"opentelemetry,resource=service.name={SERVICE}",
    )
    return [f"--trace-config={one}" for one in settings]


def tracing_environment(options: ServerOptions) -> dict[str, str]:
    """What makes the models trace."""
    return {} if options.trace_url is None else {ENDPOINT: options.trace_url}


def engine_environment(options: ServerOptions) -> dict[str, str]:
    """What sets the engine; without any it takes what this process was given."""
    if not options.engine:
        return {}
    return {ENVIRONMENT: " ".join(f"{name}={value}" for name, value in options.engine.items())}


def _die_with_parent() -> None:
    """Run in the child: SIGTERM when the process that started it is killed (prctl(2))."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _relay_log(stream: IO[bytes]) -> None:
    """Pass Triton's log on, less what is harmless; ends with the last process that writes it."""
    has_gpu = GPU_DEVICE.exists()
    with stream:
        for line in stream:
            if has_gpu or not HARMLESS.search(line):
                sys.stderr.buffer.write(line)
                sys.stderr.buffer.flush()


def check_url(url: str) -> None:
    """Raise ServerError when spans can't be sent there."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ServerError(
            f"--trace-url is {url!r}, needed is a collector's OTLP/HTTP address, such as "
            "http://localhost:4318/v1/traces"
        )


def check_port(name: str, address: str, port: int) -> None:
    """Raise ServerError when the port can't be bound."""
    flag = f"--{name.replace('_', '-')}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except (OSError, OverflowError) as error:
            raise ServerError(
                f"{flag} {port} on {address} can't be used ({error}): choose another"
            ) from None


def remove_stale_regions() -> None:
    """Remove shared memory that servers of ours left behind when they were killed."""
    for pid in {_region_pid(path) for path in SHM_FOLDER.glob(f"{SHM_PREFIX}*")}:
        if pid is not None and not Path(f"/proc/{pid}").exists():
            remove_regions(pid)


def remove_regions(pid: int) -> None:
    """Remove the shared memory regions of the server that process `pid` started."""
    for path in SHM_FOLDER.glob(f"{SHM_PREFIX}{pid}-*"):
        path.unlink(missing_ok=True)


def _region_pid(path: Path) -> int | None:
    word: Sequence[str] = path.name.removeprefix(SHM_PREFIX).split("-", 1)
    return int(word[0]) if word[0].isdecimal() else None
