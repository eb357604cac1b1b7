"""What a measurement ran on and how it was started, for its table and its JSON."""

import importlib.metadata
import os
import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("nanotriton", "numpy", "onnxruntime")


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


def describe(argv: Sequence[str]) -> dict[str, Any]:
    """Machine, load before the start, versions and command, as JSON holds them.

    A load average near zero says that nobody else used the machine.
    """
    return {
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES},
        "command": shlex.join(["python", "-m", "benchmarks", *argv]),
    }
