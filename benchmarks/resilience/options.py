"""The options of `benchmarks.resilience.commands`; knows nothing of what runs."""

import argparse
from pathlib import Path

from benchmarks.common.options import add_repository, add_urls, count
from benchmarks.resilience.failover import SCENARIOS


def add_failover(add: argparse.ArgumentParser) -> None:
    """A crowd, and what happens to the servers of the run's own."""
    add_repository(add, "what the run's own Tritons serve")
    add.add_argument(
        "--only",
        nargs="+",
        choices=tuple(SCENARIOS),
        default=tuple(SCENARIOS),
        metavar="SCENARIO",
        help=f"of {', '.join(SCENARIOS)}; default: all",
    )
    _add_crowd(add)
    add.add_argument(
        "--seconds", type=float, default=15, help="before each deed; default: %(default)s"
    )


def add_drill(add: argparse.ArgumentParser) -> None:
    """A crowd, backups, and the databases of both places."""
    add_repository(add, "what both places serve")
    add.add_argument(
        "--databases",
        nargs=2,
        metavar=("URL", "URL"),
        help="of the primary and the standby, both empty; default: SQLite in their folders",
    )
    _add_crowd(add)
    add.add_argument("--backup-every", type=float, default=5, help="seconds; default: %(default)s")
    add.add_argument(
        "--seconds", type=float, default=20, help="until the primary goes; default: %(default)s"
    )


def add_soak(add: argparse.ArgumentParser) -> None:
    """A running server, many clients."""
    add_urls(add)
    add.add_argument("--clients", type=count, default=32, help="default: %(default)s")
    add.add_argument("--seconds", type=float, default=60, help="default: %(default)s")
    add.add_argument("--max-tokens", type=count, default=48, help="at most; default: %(default)s")
    add.add_argument(
        "--streams", type=count, help="instead of pairs: so many streams, and memory watched"
    )
    add.add_argument("--minutes", type=float, default=10, help="of --streams; default: %(default)s")
    add.add_argument(
        "--cancel-rate", type=float, default=0.3, help="share given up; default: %(default)s"
    )
    add.add_argument(
        "--max-slope", type=float, default=1.0, help="MB a minute; default: %(default)s"
    )
    add_repository(add, "what it serves")


def _add_crowd(add: argparse.ArgumentParser) -> None:
    add.add_argument("--users", type=count, default=32, help="default: %(default)s")
    add.add_argument("--max-tokens", type=count, default=128, help="default: %(default)s")
    add.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too")
