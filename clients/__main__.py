"""python -m clients: its commands; results go to stdout, an error is one line on stderr."""

import argparse
import os
import sys
from collections.abc import Sequence

from clients.commands import completion, infill, load, models, shell
from clients.errors import ClientError

_EXAMPLES = """examples:
  python -m clients complete "def fib(n):" --stream --max-tokens 64 --temperature 0.2
  python -m clients complete - --stop $'\\n\\n' < prompt.py
  python -m clients complete "def area(r):" --suffix $'\\n    return a\\n' --stop-at block
  python -m clients complete "def fib(n):" --protocol gateway --url https://code.example --json
  python -m clients fim shapes.py --line 12 --in-place --protocol gateway
  python -m clients bench --requests 200 --concurrency 16 --max-tokens 64 --json
"""
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 0, 1 after an error, 130 after Ctrl-C."""
    arguments = build_parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except ClientError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:  # the request was cancelled as the client was left
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of stdout left: keep the interpreter's exit quiet
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    return status


def build_parser() -> argparse.ArgumentParser:
    """The command line, for its tests too."""
    parser = argparse.ArgumentParser(
        prog="python -m clients",
        description="Ask a nanotriton server, or its gateway.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    completion.add_command(commands, _EXAMPLES)
    infill.add_command(commands)
    load.add_command(commands)
    models.add_commands(commands)
    shell.add_command(commands, build_parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
