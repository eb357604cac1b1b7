"""Options that several measurements have; knows nothing of what they are."""

import argparse
import os
from pathlib import Path

from benchmarks.common.machine import STDOUT


def count(text: str) -> int:
    """A number of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is given, the least is 1")
    return value


def add_json(add: argparse.ArgumentParser) -> None:
    """JSON."""
    add.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=Path(STDOUT),
        metavar="FILE",
        help="print JSON instead of the table, or write it to a file beside the table",
    )


def add_plot(add: argparse.ArgumentParser) -> None:
    """Pictures."""
    add.add_argument(
        "--plot", type=Path, metavar="DIR", help="write PNG and SVG there (needs matplotlib)"
    )


def add_urls(add: argparse.ArgumentParser) -> None:
    """A running server."""
    add.add_argument("--grpc-url", default="localhost:8001", help="default: %(default)s")
    add.add_argument("--http-url", default="localhost:8000", help="default: %(default)s")


def add_repository(add: argparse.ArgumentParser, help_text: str) -> None:
    """What is served, or run."""
    default = Path("model_repository")
    add.add_argument("--model-repository", type=Path, default=default, help=help_text)


def add_version(add: argparse.ArgumentParser, help_text: str) -> None:
    """A version of a repository, or one of random weights."""
    add_repository(add, help_text)
    add.add_argument(
        "--random", action="store_true", help="instead: random weights in the size of GPT-2 (124M)"
    )


def add_rounds(add: argparse.ArgumentParser, default: int) -> None:
    """How often."""
    add.add_argument("--rounds", type=count, default=default, help="default: %(default)s")


def add_threads(add: argparse.ArgumentParser) -> None:
    """Of the runtime."""
    add.add_argument(
        "--threads",
        type=count,
        default=len(os.sched_getaffinity(0)),
        help="of the runtime; default: one a usable core",
    )
