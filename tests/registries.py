"""A real MLflow server for tests, and a wire to it that a test can cut."""

import os
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import suppress
from pathlib import Path

from running import free_ports, wait_until

READY_TIMEOUT_S = 180.0  # it takes 12 s with a core of its own, 47 on a crowded machine
# No reports to MLflow's makers, and no job runner: the tests need neither.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


class RegistryServer:
    """An `mlflow server` on a free loopback port, its database and files in `folder`."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"
        options = {
            "--backend-store-uri": f"sqlite:///{folder / 'server.db'}",
            "--artifacts-destination": str(folder / "files"),
            "--host": "127.0.0.1",
            "--port": str(self.port),
            "--workers": "1",
        }
        words = [word for option in options.items() for word in option]
        self.log_path = folder / "log"
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                env=os.environ | QUIET,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        wait_until(lambda: self._answers() or self.process.poll() is not None, READY_TIMEOUT_S)
        assert self.process.poll() is None, self.log_path.read_text()

    def stop(self) -> None:
        """End it; its worker ends with it."""
        self.process.terminate()
        self.process.wait(30)
        wait_until(lambda: not self._answers(), 30)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Wire:
    """Another port of a server's; once cut, it refuses connections until it is mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        (self.port,) = free_ports(1)
        self.uri = f"http://127.0.0.1:{self.port}"
        self._open: list[socket.socket] = []
        self.mend()

    def mend(self) -> None:
        """Listen (again)."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._open.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Break every connection and take no new one."""
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    @staticmethod
    def _carry(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
