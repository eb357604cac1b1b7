"""What a measurement ran on and how it was started, for its table and its JSON."""

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from nanotriton.machine import this_machine

STDOUT = "-"
PACKAGES = ("nanotriton", "numpy", "onnxruntime")


def machine() -> str:
    """The processor and how many cores of it this process may use."""
    return str(this_machine())


def printed_json(args: argparse.Namespace, rows: Sequence[Any]) -> bool:
    """Whether JSON is printed instead of a table; with a file, it is written beside the table."""
    if not args.json:
        return False
    figures = [dataclasses.asdict(row) for row in rows]
    return told_json(args, {"rows": figures})


def told_json(args: argparse.Namespace, figures: dict[str, Any]) -> bool:
    """The same of figures that are no rows."""
    if not args.json:
        return False
    about = describe(args.argv) | {"load_average": args.load_average}
    text = json.dumps(_known(about | figures), indent=1, allow_nan=False)
    if args.json == Path(STDOUT):
        print(text)
        return True
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(f"{text}\n", encoding="utf-8")
    return False


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


def _known(figures: Any) -> Any:
    """The same with null for NaN, which JSON has no word for."""
    if isinstance(figures, Mapping):
        return {name: _known(one) for name, one in figures.items()}
    if isinstance(figures, list | tuple):
        return [_known(one) for one in figures]
    return None if isinstance(figures, float) and isnan(figures) else figures
