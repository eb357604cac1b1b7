"""Keeps a server serving: notices what died and brings it back.

Comes in: a started `TritonServer`. Goes out: nothing; it watches until it is interrupted. What can
die:
- the engine's process: its adapter restarts it, nothing is to be done here;
- a model's python process ("stub"): Triton neither restarts it nor says so, so the model is
  unloaded and loaded again;
- tritonserver itself: it is started again, with growing pauses.
"""

import time
from collections.abc import Callable
from pathlib import Path

from nanotriton.canary import DOORS
from nanotriton.errors import NanotritonError, ServerError, Unavailable
from nanotriton.server import TritonServer

STUB = "triton_python_backend_stub"
POLL_S = 0.5
CANARY_EVERY_S = 10.0
READY_TIMEOUT_S = 180.0
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 30.0
# The models behind each door that have a process of their own.
STEPS = {
    "completion": ("preprocessing", "gpt", "postprocessing"),
    "completion_stream": ("completion_stream",),
}
# completion_stream waits for the engine that gpt starts.
LOAD_ORDER = ("preprocessing", "gpt", "postprocessing", "completion_stream")


class Watchdog:
    """Watches one server from the thread that calls `run`."""

    def __init__(self, server: TritonServer, log: Callable[[str], None]) -> None:
        self._server = server
        self._log = log
        self._pause_s = FIRST_PAUSE_S
        self._models: set[str] = set()  # that have a process of their own

    def run(self) -> None:
        """Watch for ever."""
        self._models = set(find_stubs(self._server.pid).values())
        next_canary = time.monotonic() + CANARY_EVERY_S
        while True:
            time.sleep(POLL_S)
            try:
                if self._server.exit_code is not None:
                    self._restart_server()
                elif dead := self._dead_models():
                    self._reload(dead)
                elif time.monotonic() > next_canary:
                    self._check_doors()
                    next_canary = time.monotonic() + CANARY_EVERY_S
            except NanotritonError as error:
                self._log(f"{error}; trying again in {self._pause_s:g} s")
                time.sleep(self._pause_s)
                self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
            else:
                self._pause_s = FIRST_PAUSE_S

    def _dead_models(self) -> set[str]:
        return self._models - set(find_stubs(self._server.pid).values())

    def _check_doors(self) -> None:
        """Reload what stands behind a door that fails; a busy or starting engine is no failure."""
        for model in DOORS:
            try:
                self._server.check(model)
            except Unavailable:
                continue
            except ServerError as error:
                self._log(str(error))
                self._reload(set(STEPS[model]))

    def _reload(self, models: set[str]) -> None:
        """Unload and load models over gRPC (over HTTP it would stall everybody's requests)."""
        import tritonclient.grpc as triton  # noqa: PLC0415 (only needed when something died)

        self._log(f"reloading {', '.join(sorted(models))}")
        client = triton.InferenceServerClient(self._server.options.grpc_url)
        try:
            for model in sorted(models):
                client.unload_model(model)
            for model in sorted(models, key=LOAD_ORDER.index):
                client.load_model(model, client_timeout=READY_TIMEOUT_S)
        except triton.InferenceServerException as error:
            raise ServerError(f"a model can't be loaded again: {error.message()}") from None
        finally:
            client.close()
        self._server.wait_ready(READY_TIMEOUT_S)
        self._log("serving again")

    def _restart_server(self) -> None:
        self._log(f"tritonserver ended with code {self._server.exit_code}; starting it again")
        self._server.stop()
        self._server.start()
        self._server.wait_ready(READY_TIMEOUT_S)
        self._log("serving again")


def find_stubs(server_pid: int) -> dict[int, str]:
    """Process ids of a server's running python models, each with its model's name."""
    stubs: dict[int, str] = {}
    for task in Path(f"/proc/{server_pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue  # a thread that ended just now
        for pid in children:
            if model := _stub_model(pid):
                stubs[pid] = model
    return stubs


def _stub_model(pid: int) -> str | None:
    """Name of the model that a stub runs, from its command line; None for anything else."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if not words[0].decode(errors="replace").endswith(STUB):
        return None  # a zombie's command line is empty
    model_file = Path(words[1].decode(errors="replace"))  # REPOSITORY/MODEL/VERSION/model.py
    return model_file.parent.parent.name
