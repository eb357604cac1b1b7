"""The real nginx with the project's own configuration, in front of gateways on loopback.

Comes in: the gateways' ports and a folder. Goes out: HOST:PORT where people ask, without TLS. Only
the two files that depend on the place are made anew. Raises ValueError when nginx is not installed
or refuses its configuration.
"""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving.own_servers import free_ports

CONFIG = Path(__file__).resolve().parent.parent.parent / "docker" / "nginx" / "nginx.conf"
PROGRAMS = "/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"
START_TIMEOUT_S = 10.0


@contextmanager
def running_front(
    ports: Sequence[int], folder: Path, standby_port: int | None = None
) -> Iterator[str]:
    """One for a while; the standby is asked when none of the others answers."""
    program = shutil.which("nginx", path=PROGRAMS)
    if program is None:
        raise ValueError("nginx is not installed: install it (Debian: apt install nginx-light)")
    folder.mkdir()
    [port] = free_ports(1)
    gateways = [f"server 127.0.0.1:{one} max_fails=0;" for one in ports]
    if standby_port is not None:
        gateways.append(f"server 127.0.0.1:{standby_port} backup;")
    shutil.copy(CONFIG, folder)
    (folder / "gateways.conf").write_text("\n".join(gateways))
    (folder / "listen.conf").write_text(f"listen 127.0.0.1:{port};")
    with (folder / "log").open("w") as log:
        command = [program, "-p", str(folder), "-c", str(folder / CONFIG.name)]
        process = subprocess.Popen([*command, "-e", "stderr"], stdout=log, stderr=log)
    try:
        _wait_until_it_runs(process, folder)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_runs(process: "subprocess.Popen[bytes]", folder: Path) -> None:
    """Its pid file is written once it listens."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not (folder / "nginx.pid").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            said = (folder / "log").read_text().strip().rpartition("\n")[2]
            raise ValueError(f"nginx did not start: {said}")
        time.sleep(0.02)
