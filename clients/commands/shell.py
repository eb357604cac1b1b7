"""completion: a script that makes a shell complete this command line's words.

A module has no name that a shell could complete, so the script defines one: `clients`.
"""

import argparse
from collections.abc import Callable
from typing import Any

from clients.errors import InvalidRequest

NAME = "clients"
FUNCTIONS = {
    "bash": 'clients() { python -m clients "$@"; }',
    "zsh": 'clients() { python -m clients "$@"; }',
    "fish": "function clients; python -m clients $argv; end",
}


def add_command(
    commands: "argparse._SubParsersAction[Any]",
    build_parser: Callable[[], argparse.ArgumentParser],
) -> None:
    """Add `completion`, of the whole command line."""
    parser = commands.add_parser(
        "completion",
        help="a shell's completion of these commands",
        description="Print a script that defines the function `clients` and completes its words.",
        epilog='bash, zsh: eval "$(python -m clients completion bash)"     '
        "fish: python -m clients completion fish | source",
    )
    parser.add_argument("shell", choices=list(FUNCTIONS), help="whose script")
    parser.set_defaults(run=lambda arguments: _print(arguments.shell, build_parser()))


def _print(shell: str, parser: argparse.ArgumentParser) -> int:
    try:
        import shtab  # noqa: PLC0415 (nothing else needs it)
    except ImportError:
        raise InvalidRequest(
            "completion needs shtab, which is not installed: pip install 'nanotriton[client]'"
        ) from None
    parser.prog = NAME
    print(FUNCTIONS[shell])
    print(shtab.complete(parser, shell))
    return 0
