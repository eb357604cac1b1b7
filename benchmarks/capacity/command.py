"""`python -m benchmarks capacity`: its options. What runs them needs the extra `bench`."""

import argparse
from pathlib import Path

from benchmarks.common.options import add_json, add_plot, count
from benchmarks.common.prices import DEFAULT_PRICES

DEVELOPERS = (100, 1_000, 10_000, 100_000, 1_000_000)
SCENARIOS = ("steady", "spot", "region lost")
MEASURED_CURVE = Path(__file__).parent / "demo_curve.json"


def add_options(add: argparse.ArgumentParser) -> None:
    """A curve, or servers to measure one on; the assumptions."""
    add.add_argument(
        "--curve",
        type=Path,
        default=MEASURED_CURVE,
        metavar="FILE",
        help="what a replica does; default: as measured for docs/CAPACITY.md",
    )
    add.add_argument(
        "--measure", action="store_true", help="first measure --curve, on servers of the run's own"
    )
    add.add_argument(
        "--validate",
        action="store_true",
        help="instead: hold the simulator against real servers, with one replica and with two",
    )
    add.add_argument(
        "--replicas",
        type=int,
        choices=(1, 2),
        nargs="+",
        default=[1, 2],
        help="of --validate, on this one machine; default: %(default)s",
    )
    add.add_argument(
        "--model-repository", type=Path, default=Path("model_repository"), help="what those serve"
    )
    add.add_argument(
        "--random", action="store_true", help="instead: random weights in the size of GPT-2 (124M)"
    )
    add.add_argument(
        "--levels",
        type=count,
        nargs="+",
        default=[1, 2, 4, 8, 16, 32],
        help="questions under way, 1 first; default: %(default)s",
    )
    add.add_argument(
        "--level-seconds", type=float, default=6, help="of each level; default: %(default)s"
    )
    add.add_argument("--rounds", type=count, default=3, help="of all levels; default: %(default)s")
    add.add_argument(
        "--seconds", type=float, default=30, help="of each --validate rate; default: %(default)s"
    )
    add.add_argument(
        "--developers", type=count, nargs="+", default=[*DEVELOPERS], help="default: %(default)s"
    )
    add.add_argument(
        "--days", nargs="+", choices=SCENARIOS, default=[*SCENARIOS], help="default: all of them"
    )
    add.add_argument(
        "--questions-per-day", type=float, default=300, help="of a developer; default: %(default)s"
    )
    add.add_argument(
        "--target",
        type=float,
        help="questions in flight at each replica that the autoscaler aims at; default: half of "
        "the streams at which the curve's p95 is 200 ms",
    )
    add.add_argument(
        "--cold-start-s",
        type=float,
        default=90,
        help="of a new replica; default: %(default)s",
    )
    add.add_argument("--seed", type=int, default=1, help="of the days; default: %(default)s")
    add.add_argument(
        "--prices", type=Path, default=DEFAULT_PRICES, metavar="FILE", help="default: %(default)s"
    )
    add.add_argument("--machine", help="of the price table, for a replica; default: the first")
    add_json(add)
    add_plot(add)


def run(args: argparse.Namespace) -> int:
    """Print a row for each day, or for each check; raises ValueError without the extra."""
    try:
        from benchmarks.capacity import report  # noqa: PLC0415 (simpy is an extra)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is missing: pip install -e '.[bench]'") from None
    return report.run(args)
