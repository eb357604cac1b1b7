"""`python -m monitoring`: writes the dashboards' files, and draws their data."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from monitoring.panels import BOARDS

EXAMPLES = """examples:
  python -m monitoring dashboards           # after a change of monitoring/panels.py
  python -m monitoring pictures --prometheus http://localhost:9090 --minutes 15
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit status."""
    args = build_parser().parse_args(argv)
    if args.command == "dashboards":
        from monitoring.dashboards import write_dashboards  # noqa: PLC0415 (--help needs no SDK)

        write_dashboards(args.out)
        return 0
    from monitoring.pictures import NoAnswer, draw_board  # noqa: PLC0415 (nor matplotlib)

    try:
        for board in BOARDS:
            draw_board(board, args.prometheus, args.minutes, args.out)
    except NoAnswer as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m monitoring",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    written = commands.add_parser("dashboards", help="write Grafana's JSON of monitoring/panels.py")
    folder = Path("helm/nanotriton/monitoring/dashboards")
    written.add_argument("--out", type=Path, default=folder, help="default: %(default)s")
    drawn = commands.add_parser("pictures", help="draw what the dashboards' queries bring")
    drawn.add_argument("--prometheus", required=True, metavar="URL", help="where they are asked")
    drawn.add_argument("--minutes", type=float, default=15, help="until now; default: %(default)s")
    pictures = Path("docs/dashboards")
    drawn.add_argument("--out", type=Path, default=pictures, help="default: %(default)s")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
