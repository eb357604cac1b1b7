"""Whether this machine can serve: the checks of `nanotriton doctor` that need no weights.

Comes in: what a manifest asks for. Goes out: what was seen, in words. Each check raises
NanotritonError with the mend. Knows nothing of repositories.
"""

import platform
import shutil
import sys
import tempfile
from pathlib import Path

from nanotriton.contract import PROCESSOR
from nanotriton.errors import NanotritonError
from nanotriton.machine import this_machine
from nanotriton.manifest import Manifest
from nanotriton.server import SHM_FOLDER, ServerOptions, check_port

OLDEST_PYTHON = (3, 10)
# Each of the four Python models takes 1 MB at once, and more by the megabyte (measured: 4 MB).
MIN_SHM_BYTES = 16 << 20
# The python backend is laid out in the temporary folder (1.5 MB), beside logs and sockets.
MIN_SCRATCH_BYTES = 64 << 20
EIGHT_BITS = ("int8", "auto")  # u8 x s8 products; those of 4 bits can't saturate


def check_python() -> str:
    """The interpreter that runs Triton's Python models."""
    found = platform.python_version()
    if sys.version_info < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise NanotritonError(f"Python is {found}, the oldest that serves is {oldest}: upgrade it")
    return f"Python {found}"


def check_processor(manifest: Manifest) -> str:
    """Whether 8-bit products come out right, unless they were proved on this very processor."""
    machine = this_machine()
    is_proved = manifest.versions.get(PROCESSOR) == machine.cpu
    if machine.may_saturate and manifest.precision in EIGHT_BITS and not is_proved:
        raise NanotritonError(
            f"{machine} has no VNNI: 8-bit products of precision {manifest.precision} may saturate "
            "where the export saw none: export it again on this machine, which proves it here"
        )
    return str(machine)


def check_ports(options: ServerOptions) -> str:
    """Whether the three ports are free."""
    for name in ("http_port", "grpc_port", "metrics_port"):
        check_port(name, options.address, getattr(options, name))
    return f"{options.http_port}, {options.grpc_port} and {options.metrics_port} are free"


def check_shared_memory(folder: Path = SHM_FOLDER) -> str:
    """Whether Triton's Python models can talk to it."""
    free = shutil.disk_usage(folder).free
    if free < MIN_SHM_BYTES:
        raise NanotritonError(
            f"{folder} has {free / 1e6:.0f} MB free, Triton's Python models need "
            f"{MIN_SHM_BYTES / 1e6:.0f}: free some, or start the container with --shm-size=256m"
        )
    return f"{folder} has {free / 1e6:,.0f} MB free"


def check_disk(folder: Path | None = None) -> str:
    """Whether there is room for what the server lays out; by default in the temporary folder."""
    folder = Path(tempfile.gettempdir()) if folder is None else folder
    free = shutil.disk_usage(folder).free
    if free < MIN_SCRATCH_BYTES:
        raise NanotritonError(
            f"{folder} has {free / 1e6:.0f} MB free, the server needs "
            f"{MIN_SCRATCH_BYTES / 1e6:.0f}: free some, or set TMPDIR to another folder"
        )
    return f"{folder} has {free / 1e9:,.1f} GB free"
