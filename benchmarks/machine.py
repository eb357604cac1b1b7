"""What a measurement ran on and how it was started, for its table and its JSON."""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
from collections.abc import Sequence
from typing import Any

from nanotriton.machine import this_machine

PACKAGES = ("nanotriton", "numpy", "onnxruntime")


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    return str(this_machine())


def printed_json(args: argparse.Namespace, rows: Sequence[Any]) -> bool:
    """Whether JSON was asked for; then it is printed."""
    if args.json:
        figures = [dataclasses.asdict(row) for row in rows]
        print(json.dumps(describe(args.argv) | {"rows": figures}))
    return bool(args.json)


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
