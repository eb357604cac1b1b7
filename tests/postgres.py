"""A real PostgreSQL for tests: a cluster in a folder of its own, on a free port."""

import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from running import free_ports, wait_until

USER = "postgres"
READY_TIMEOUT_S = 30.0


@dataclass
class Postgres:
    """A running cluster; `new_url` makes an empty database in it."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def new_url(self) -> str:
        """The URL of a new database, as Database takes it."""
        name = f"test_{uuid4().hex}"
        with psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{name}"

    def kill(self) -> None:
        """End it at once, as a crash would: its connections are cut."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=READY_TIMEOUT_S)

    def restart(self) -> None:
        """Start it again after `kill`, on the same port and data."""
        self.process = _start(self.folder, self.port)
        wait_until(self._is_ready, READY_TIMEOUT_S)

    def _address(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={database} connect_timeout=2"

    def remove(self) -> None:
        """End it for good."""
        self.kill()
        shutil.rmtree(self.folder)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")
        try:
            psycopg.connect(self._address("postgres")).close()
        except psycopg.OperationalError:
            return False
        return True


def start_postgres() -> Postgres:
    """Make a cluster and start it.

    PostgreSQL refuses to run as root, and root's folders under pytest are closed to its user.
    """
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, USER, USER)
    command = [_program("initdb"), "-D", folder / "data", "-U", USER, "-A", "trust", "--no-sync"]
    subprocess.run(_as_its_user(command), check=True, capture_output=True, cwd=folder)
    [port] = free_ports(1)
    started = Postgres(folder, port, _start(folder, port))
    wait_until(started._is_ready, READY_TIMEOUT_S)
    return started


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "fsync": "off",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = _as_its_user([_program("postgres"), "-D", folder / "data", *options])
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)


def _as_its_user(command: list[str | Path]) -> list[str | Path]:
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *command]


def _program(name: str) -> str:
    # Debian keeps the servers' programs out of PATH, a folder for each version.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name, path=":".join([*map(str, folders), os.environ["PATH"]]))
    assert found, f"{name} is not installed: install PostgreSQL (apt install postgresql)"
    return found
