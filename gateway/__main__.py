"""The command `python -m gateway`: serve; other rooms add commands of their own."""

import argparse
import sys
from collections.abc import Callable, Sequence

from gateway.account.command import add_command as add_usage
from gateway.command import add_command as add_serve
from gateway.errors import GatewayError
from gateway.identity.command import add_command as add_identity
from gateway.storage.command import add_command as add_backup

COMMANDS: tuple[Callable[["argparse._SubParsersAction[argparse.ArgumentParser]"], None], ...] = (
    add_serve,
    add_identity,
    add_usage,
    add_backup,
)
EXAMPLES = """examples:
  python -m gateway serve --open
  python -m gateway serve --backend stable=127.0.0.1:8001 --host 0.0.0.0 --port 8080
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 1 with one line on stderr when it can't be done."""
    args = build_parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 1
    return status


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="The one public door in front of Triton.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
