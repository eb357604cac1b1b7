"""The options of `benchmarks.timing.commands`; knows nothing of what runs."""

import argparse
from pathlib import Path

from benchmarks.common.options import (
    add_json,
    add_plot,
    add_repository,
    add_threads,
    add_version,
    count,
)
from benchmarks.peers.catalogue import DEFAULT_VENVS


def rate(text: str) -> float:
    """A number above 0."""
    if not (value := float(text)) > 0:
        raise argparse.ArgumentTypeError(f"{value:g} is given, it must be above 0")
    return value


def add_breakdown(add: argparse.ArgumentParser) -> None:
    """A version."""
    _add_version(add)
    _add_report(add, rounds=3)


def add_floor(add: argparse.ArgumentParser) -> None:
    """A version."""
    _add_version(add)
    _add_report(add, rounds=5)


def add_waterfall(add: argparse.ArgumentParser) -> None:
    """Numbers of users, and what the run's own servers serve."""
    add_repository(add, "what the run's own Triton serves")
    add.add_argument(
        "--users", type=count, nargs="+", default=[1, 32], help="at once; default: %(default)s"
    )
    _add_max_tokens(add)
    _add_report(add, rounds=20, of="of each user and way")


def add_perf_analyzer(add: argparse.ArgumentParser) -> None:
    """The sweeps, and where the program is."""
    add_repository(add, "what the run's own Triton serves")
    add.add_argument(
        "--install", action="store_true", help="fetch perf_analyzer for --venvs, and end"
    )
    add.add_argument(
        "--venvs", type=Path, default=DEFAULT_VENVS, help="where it is; default: %(default)s"
    )
    add.add_argument(
        "--users", type=count, nargs="*", default=[1, 8], help="at once; default: %(default)s"
    )
    add.add_argument(
        "--rates", type=rate, nargs="*", default=[5.0], help="requests a second; default: 5"
    )
    add.add_argument(
        "--seconds", type=rate, default=4.0, help="of one measurement; default: %(default)s"
    )
    _add_max_tokens(add)
    _add_report(add, rounds=5)


def _add_version(add: argparse.ArgumentParser) -> None:
    add_version(add, "its newest version")
    add_threads(add)


def _add_max_tokens(add: argparse.ArgumentParser) -> None:
    add.add_argument("--max-tokens", type=count, default=32, help="default: %(default)s")


def _add_report(add: argparse.ArgumentParser, rounds: int, of: str = "in turn") -> None:
    add.add_argument("--rounds", type=count, default=rounds, help=f"{of}; default: %(default)s")
    add_json(add)
    add_plot(add)
