"""fim: a file and a cursor in, what is missing there on stdout, or in the file."""

import argparse
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clients.client import CompletionClient
from clients.commands.options import (
    add_sampling_options,
    add_server_options,
    client_options,
    settings_of,
)
from clients.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Cut:
    """A text at a cursor."""

    before: str
    after: str


def add_command(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add `fim`."""
    parser = commands.add_parser(
        "fim",
        help="fill in the middle of a file, at a cursor",
        description="Fill in what is missing at a cursor of a file; the new text goes to stdout.",
    )
    add = parser.add_argument
    add("file", type=Path, help="UTF-8 text")
    add("--line", type=int, required=True, help="the cursor's line; the first one is 1")
    add("--column", type=int, help="characters in front of the cursor, and 1; default: line's end")
    add("--in-place", action="store_true", help="put the text into the file instead of stdout")
    add_server_options(parser)
    add_sampling_options(parser)
    parser.set_defaults(run=_fill)


def _fill(arguments: argparse.Namespace) -> int:
    if (arguments.n or 1) > 1:
        raise InvalidRequest(f"n is {arguments.n}: one text fits at a cursor, leave n out")
    data = _read(arguments.file)
    cut = cut_at(data.decode(), arguments.line, arguments.column)
    settings = settings_of(arguments)
    if cut.after:
        settings["suffix"] = cut.after
    with CompletionClient(**client_options(arguments)) as client:
        text = client.complete(cut.before, **settings).text
    if not arguments.in_place:
        print(text, end="\n" if sys.stdout.isatty() else "", flush=True)
        return 0
    if _read(arguments.file) != data:
        raise InvalidRequest(f"{arguments.file} was changed meanwhile: it is left as it is")
    _replace(arguments.file, f"{cut.before}{text}{cut.after}".encode())
    return 0


def cut_at(text: str, line: int, column: int | None) -> Cut:
    """Cut a text at a cursor; raises InvalidRequest for one that lies outside."""
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        raise InvalidRequest(f"line is {line}: the file has lines 1 to {len(lines)}")
    width = len(lines[line - 1].removesuffix("\r"))
    column = width + 1 if column is None else column
    if not 1 <= column <= width + 1:
        raise InvalidRequest(f"column is {column}: line {line} has columns 1 to {width + 1}")
    place = sum(len(one) + 1 for one in lines[: line - 1]) + column - 1
    return Cut(text[:place], text[place:])


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        data.decode()
    except OSError as error:
        raise InvalidRequest(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is no UTF-8 at byte {error.start}: convert it") from None
    return data


def _replace(path: Path, data: bytes) -> None:
    """Write the whole file or nothing; a link keeps pointing to it."""
    path = path.resolve()
    try:
        mode = path.stat().st_mode
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
            new.write(data)
        os.chmod(new.name, mode)
        os.replace(new.name, path)
    except OSError as error:
        raise InvalidRequest(f"{path} can't be written: {error.strerror}") from None
