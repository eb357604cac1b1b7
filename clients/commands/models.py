"""models, ready: what the server has, and whether it answers."""

import argparse
import json
import sys
from typing import Any

from clients.client import CompletionClient
from clients.commands.options import add_server_options, client_options

EXIT_NOT_READY = 1


def add_commands(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `models` and `ready`."""
    models = commands.add_parser("models", help="the models that the gateway has, one a line")
    models.add_argument("--json", action="store_true", help="a JSON list")
    add_server_options(models, timeout_s=10.0, protocol="gateway", is_tried_again=False)
    models.set_defaults(run=_models)
    ready = commands.add_parser("ready", help="exit with 0 when completions are served, else 1")
    add_server_options(ready, timeout_s=5.0, is_tried_again=False)
    ready.set_defaults(run=_ready)


def _models(arguments: argparse.Namespace) -> int:
    with CompletionClient(**client_options(arguments)) as client:
        names = client.models()
    print(json.dumps(names) if arguments.json else "\n".join(names))
    return 0


def _ready(arguments: argparse.Namespace) -> int:
    with CompletionClient(**client_options(arguments)) as client:
        if client.is_ready():
            return 0
        print(f"error: {client.url} is not ready", file=sys.stderr)
    return EXIT_NOT_READY
