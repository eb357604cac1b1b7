"""A whole service on one machine: nginx, two gateways, two servers; any of them may end.

    people ─▶ nginx ─▶ gateways "a" and "b" ─▶ servers "one" and "two"

Comes in: a model repository, which is copied, and a folder. Goes out: where people ask, with which
key, and handles to end and start again each part on the port that it had. Knows nothing of what is
asked.
"""

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import tritonclient.grpc as triton

from benchmarks.resilience.front import running_front
from benchmarks.serving.own_servers import (
    READY,
    Gateway,
    create_key,
    free_ports,
    start,
    start_gateway,
)
from nanotriton.contract import ENGINE_MODEL
from nanotriton.manifest import newest_version

SERVERS, GATEWAYS = ("one", "two"), ("a", "b")
DRAIN_DELAY_S = "1"  # nginx has no checks of its own: the first 503 tells it
READY_TIMEOUT_S = 60.0
LOAD_TIMEOUT_S = 120.0


class Server:
    """A `nanotriton serve` that keeps its ports."""

    def __init__(self, name: str, repository: Path, folder: Path) -> None:
        self.name = name
        self._repository = repository
        self._log = folder / f"server-{name}.log"
        self._ports = free_ports(3)
        self._process: subprocess.Popen[str] | None = None

    @property
    def backend(self) -> str:
        """As the gateway's command line has it."""
        return f"{self.name}=127.0.0.1:{self._ports[1]}"

    def start(self) -> None:
        """And wait until it completes; harmless when it runs."""
        if self._process is None:
            named = zip(("http", "grpc", "metrics"), self._ports, strict=True)
            words = [word for name, port in named for word in (f"--{name}-port", str(port))]
            serve = ["-m", "nanotriton", "serve", "--model-repository", str(self._repository)]
            self._process, _ = start([*serve, *words], self._log, READY)

    def stop(self) -> float:
        """As an orchestrator does; seconds until what ran had ended."""
        if self._process is None:
            return 0.0
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(READY_TIMEOUT_S)
        self._process = None
        return time.monotonic() - began

    def kill(self) -> None:
        """All of its processes at once, as when a machine goes."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)  # so that it restarts nothing
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        for pid in children.read_text().split():  # tritonserver leads a group of its own
            os.killpg(int(pid), signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None

    def load(self) -> None:
        """Have it take the newest version that the repository holds."""
        client = triton.InferenceServerClient(f"127.0.0.1:{self._ports[1]}")
        try:
            client.load_model(ENGINE_MODEL, client_timeout=LOAD_TIMEOUT_S)
        except triton.InferenceServerException as error:
            raise ValueError(f"server {self.name} can't load: {error.message()}") from error
        finally:
            client.close()


class Door:
    """A gateway that keeps its port; both share the accounts in the folder."""

    def __init__(self, name: str, backends: Sequence[str], folder: Path, *words: str) -> None:
        self.name = name
        self._backends = backends
        self._words = words
        self._folder = folder
        [self.port] = free_ports(1)
        self._gateway: Gateway | None = None

    def start(self) -> None:
        """And wait until it listens; harmless when it runs."""
        if self._gateway is None:
            words = ["--port", str(self.port), "--drain-delay-s", DRAIN_DELAY_S]
            words += ["--cache-bytes", "0", *self._words]  # the engine answers all
            name = f"gateway-{self.name}"
            self._gateway = start_gateway(self._backends, self._folder, *words, name=name)

    def stop(self) -> float:
        """As an orchestrator does; seconds until what ran had ended."""
        if self._gateway is None:
            return 0.0
        began = time.monotonic()
        self._gateway.stop()
        self._gateway = None
        return time.monotonic() - began

    def kill(self) -> None:
        """At once."""
        assert self._gateway is not None
        self._gateway.kill()
        self._gateway = None

    def sees_all(self) -> bool:
        """Whether it listens and every server completes for it."""
        url = f"http://127.0.0.1:{self.port}/health/ready"
        with suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.read().count(b'"ready"') == 1 + len(self._backends))
        return False


def start_all(*parts: Server | Door) -> None:
    """At once: most of a start is waiting."""
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(lambda one: one.start(), parts):
            pass


class Fleet:
    """All of it; `url` and `key` are what people have."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.folder = folder
        self.repository = Path(shutil.copytree(repository, folder / "repository"))
        self.servers = [Server(name, self.repository, folder) for name in SERVERS]
        backends = [one.backend for one in self.servers]
        self.gateways = [Door(name, backends, folder) for name in GATEWAYS]
        self.url = ""
        self.key = create_key(folder, "people")

    def mend(self) -> None:
        """Start whatever is down, and wait until every gateway sees every server."""
        start_all(*self.servers, *self.gateways)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not all(one.sees_all() for one in self.gateways):
            if time.monotonic() > deadline:
                raise ValueError(f"not all is ready after {READY_TIMEOUT_S:g} s: see {self.folder}")
            time.sleep(0.1)

    def publish(self) -> Path:
        """The newest version once more, as the next one: the same texts under another number."""
        newest = newest_version(self.repository)
        return Path(shutil.copytree(newest, newest.with_name(str(int(newest.name) + 1))))

    def stop(self) -> None:
        """All of it."""
        for gateway in self.gateways:
            gateway.stop()
        for server in self.servers:
            server.stop()


@contextmanager
def running_fleet(repository: Path, folder: Path) -> Iterator[Fleet]:
    """One for a while; `mend` starts it."""
    fleet = Fleet(repository, folder)
    with ExitStack() as stack:
        stack.callback(fleet.stop)
        ports = [one.port for one in fleet.gateways]
        fleet.url = stack.enter_context(running_front(ports, folder / "nginx"))
        yield fleet
