"""complete: a prompt in, its completion on stdout."""

import argparse
import dataclasses
import json
import sys
from typing import Any

from clients.client import CompletionClient
from clients.commands.options import (
    add_sampling_options,
    add_server_options,
    client_options,
    settings_of,
)
from clients.errors import InvalidRequest
from clients.messages import Chunk, Completion


def add_command(commands: "argparse._SubParsersAction[Any]", examples: str) -> None:
    """Add `complete`."""
    parser = commands.add_parser(
        "complete",
        help="complete a prompt",
        description="Complete a prompt; the new text alone goes to stdout.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("prompt", help="the text to go on from; - reads it from stdin")
    add("--suffix", help="the text after the cursor: fill in what is missing between the two")
    add("--stream", action="store_true", help="show the text as it is generated")
    add("--json", action="store_true", help="one JSON object, with --stream one line per chunk")
    add_server_options(parser)
    add_sampling_options(parser)
    parser.set_defaults(run=_complete)


def _complete(arguments: argparse.Namespace) -> int:
    client = CompletionClient(**client_options(arguments))
    settings = settings_of(arguments)
    if arguments.suffix is not None:
        settings["suffix"] = arguments.suffix
    prompt = _read_stdin() if arguments.prompt == "-" else arguments.prompt
    if arguments.stream and (arguments.n or 1) > 1 and not arguments.json:
        raise InvalidRequest(f"n is {arguments.n}: --stream shows one text, add --json for more")
    with client:
        if arguments.stream:
            with client.stream(prompt, **settings) as stream:
                for chunk in stream:
                    _show(chunk, as_json=arguments.json)
        else:
            _show(client.complete(prompt, **settings), as_json=arguments.json)
    if sys.stdout.isatty() and not arguments.json:
        print()
    return 0


def _read_stdin() -> str:
    # Bytes that aren't UTF-8 become surrogates, which the client refuses by name.
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def _titled(answer: Completion | Chunk) -> list[str]:
    """The text, or several, each under its number."""
    if isinstance(answer, Chunk) or not answer.others:
        return [answer.text]
    return [f"--- text {number}\n{text}" for number, text in enumerate(answer.texts, start=1)]


def _show(answer: Completion | Chunk, *, as_json: bool) -> None:
    if as_json:
        values = dataclasses.asdict(answer)
        for name in ("logprobs", "others"):
            if not values.get(name, True):
                del values[name]
        print(json.dumps(values, ensure_ascii=False), flush=True)
    else:
        print(*_titled(answer), sep="\n", end="", flush=True)
