"""Finds a real tritonserver and says how to run it: the one on PATH, or the one in the wheel.

Comes in: this machine. Goes out: an `Installation`: a command and its environment. NVIDIA's
container has tritonserver on PATH with its backends in place. The wheel `nvidia-pytriton` holds
the same server, but its backend folder must be put together for the running Python. Knows nothing
of models.
"""

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nanotriton.errors import ServerError

INSTALL_HINT = "install it with `pip install nanotriton[server]`, or run in NVIDIA's Triton image"


@dataclass(frozen=True, slots=True)
class Installation:
    """How to run tritonserver: the command's first words and the environment it needs."""

    command: tuple[str, ...]
    environment: Mapping[str, str]


def find_installation(scratch: Path) -> Installation:
    """Find tritonserver; `scratch` is a folder for what must be laid out. Raises ServerError."""
    environment = with_this_python(os.environ)
    if on_path := shutil.which("tritonserver"):
        return Installation((on_path,), environment)
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError(f"tritonserver is neither on PATH nor in a wheel: {INSTALL_HINT}")
    package = Path(spec.submodule_search_locations[0])
    return lay_out_wheel(package, scratch, environment)


def lay_out_wheel(package: Path, scratch: Path, environment: Mapping[str, str]) -> Installation:
    """Put the wheel's python backend together with the stub for this Python, in `scratch`."""
    server = package / "tritonserver"
    stub_version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / stub_version / "triton_python_backend_stub"
    if not stub.is_file():
        have = sorted(entry.name for entry in stub.parent.parent.iterdir())
        raise ServerError(
            f"the wheel's Triton has no stub for Python {stub_version}, only for "
            f"{', '.join(have)}: use one of these"
        )
    backend = scratch / "backends" / "python"
    shutil.copytree(server / "backends" / "python", backend)
    shutil.copy2(stub, backend / stub.name)
    libraries = [package.parent / "nvidia_pytriton.libs", sysconfig.get_config_var("LIBDIR")]
    command = (
        str(server / "bin" / "tritonserver"),
        f"--backend-directory={scratch / 'backends'}",
        f"--cache-directory={server / 'caches'}",
    )
    return Installation(
        command, {**environment, "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries))}
    )


def with_this_python(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with this interpreter first on PATH: the stub takes the one it finds."""
    folder = str(Path(sys.executable).parent)
    return {**environment, "PATH": os.pathsep.join([folder, environment.get("PATH", "")])}
