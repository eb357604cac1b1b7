"""People who write code: the prompts that an editor sends while somebody types a function.

Comes in: Python files. Goes out: for each function a growing series of prompts; or prompts of
random tokens, which no editor sends. Knows nothing of engines.
"""

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from nanotriton.tokenizer import Tokenizer

# Of Python's own library, and not among what the demo model was trained on: the corpus of its card
# held them out, or had its share of that source without them.
MODULES = (
    *("compileall", "functools", "getopt", "gzip", "heapq", "inspect", "ipaddress", "pdb"),
    *("profile", "quopri", "random", "shutil", "socket", "string", "tarfile"),
    *("threading", "weakref"),
)
TOKENS_A_LINE = 4  # fewer than code has: more lines than these never fit
LEAST_CHARACTERS, MOST_CHARACTERS = 200, 1500


def library_files() -> list[Path]:
    """Files of Python's own library to type."""
    specs = [importlib.util.find_spec(name) for name in MODULES]
    return [Path(spec.origin) for spec in specs if spec and spec.origin and spec.has_location]


def functions_of(source: str) -> Iterator[tuple[str, str]]:
    """(all that stands above it, its own text) of each function of a middling length."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            text = "".join(lines[node.lineno - 1 : node.end_lineno])
            if LEAST_CHARACTERS <= len(text) <= MOST_CHARACTERS:
                yield "".join(lines[: node.lineno - 1]), text


def typed_series(
    files: Iterable[Path], every: int, tokenizer: Tokenizer, room: int
) -> list[list[list[int]]]:
    """The prompts of each function in these files, function by function."""
    return [
        prompts
        for file in files
        for above, function in functions_of(file.read_text(encoding="utf-8"))
        if (prompts := typed_prompts(above, function, every, tokenizer, room))
    ]


def random_series(num_prompts: int, num_tokens: int, vocab_size: int) -> list[list[list[int]]]:
    """Prompts that have nothing in common with each other or with themselves, each a series."""
    ids = np.random.default_rng(0).integers(0, vocab_size, (num_prompts, 1, num_tokens))
    series: list[list[list[int]]] = ids.tolist()
    return series


def typed_prompts(
    above: str, function: str, every: int, tokenizer: Tokenizer, room: int
) -> list[list[int]]:
    """Token ids of the document each `every` characters, with as many lines above as fit.

    All of them begin with the same line, and none has more than `room` tokens: empty when the
    function alone is too long.
    """
    head = head_of(above, function, tokenizer, room)
    if head is None:
        return []
    return [
        tokenizer.encode(head + function[:length]) for length in range(every, len(function), every)
    ]


def head_of(above: str, function: str, tokenizer: Tokenizer, room: int) -> str | None:
    """The last lines above a function, as many as fit with it; None when it alone doesn't fit."""
    lines = above.splitlines(keepends=True)[-(room // TOKENS_A_LINE) :]
    while len(tokenizer.encode("".join([*lines, function]))) > room:
        if not lines:
            return None
        lines = lines[-(len(lines) * 9 // 10) :] if len(lines) > 1 else []
    return "".join(lines)
