"""The worker's side of a measurement: JSON lines in on stdin, JSON lines out on stdout.

    to the worker     {"prompts": [[id, ...], ...], "num_new": n}
    from the worker   {"versions": {...}} once it is ready, then for each request
                      {"first_s", "seconds", "tokens"}, or {"error": "..."} and it ends

Runs inside a peer's own virtual environment, so it needs the standard library alone. Knows nothing
of rounds, nor of any peer.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Options:
    """What a peer is opened with; `max_tokens` is the longest sequence, prompt and all."""

    checkpoint: Path
    work: Path
    precision: str
    num_threads: int
    max_sequences: int
    max_tokens: int


class Model(Protocol):
    """A peer with the weights loaded."""

    def generate(
        self, prompts: Sequence[Sequence[int]], num_new: int, on_first: Callable[[], None]
    ) -> list[list[int]]:
        """`num_new` greedy tokens for each prompt, whatever they are.

        Calls `on_first` once, when the first token of a lone prompt is known.
        """
        ...


def serve(
    open_model: Callable[[Options], Model],
    packages: Sequence[str],
    argv: Sequence[str] | None = None,
) -> int:
    """Open the model that the arguments name and answer until stdin ends; the exit status."""
    options = _parse(argv)
    replies = _take_stdout()

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    try:
        model = open_model(options)
        reply({"versions": {name: importlib.metadata.version(name) for name in packages}})
        for line in sys.stdin:
            reply(_answer(model, json.loads(line)))
    except Exception as error:  # the process boundary: whoever started it tells
        reply({"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
        return 1
    return 0


def _answer(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    first_s: list[float] = []
    started_s = time.perf_counter()
    tokens = model.generate(
        request["prompts"],
        request["num_new"],
        lambda: first_s.append(time.perf_counter() - started_s),
    )
    seconds = time.perf_counter() - started_s
    return {"first_s": first_s[0], "seconds": seconds, "tokens": tokens}


def _take_stdout() -> Any:
    """Standard output for the replies alone: what a library prints goes to stderr from now on."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _parse(argv: Sequence[str] | None) -> Options:
    parser = argparse.ArgumentParser(description="Started by `python -m benchmarks peers`.")
    parser.add_argument("checkpoint", type=Path, help="Hugging Face GPT-2 folder")
    parser.add_argument("work", type=Path, help="folder for what the peer makes of it")
    parser.add_argument("precision", help="one of the peer's own")
    for name in ("num_threads", "max_sequences", "max_tokens"):
        parser.add_argument(name, type=int, help=f"see Options.{name}")
    return Options(**vars(parser.parse_args(argv)))
