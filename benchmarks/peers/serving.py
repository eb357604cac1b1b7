"""The worker's side of a measurement: a model that is stepped, asked by lines or over HTTP.

By JSON lines on stdin and stdout, without HTTP, tokenizers or queues:

    to the worker     {"prompts": [[id, ...], ...], "num_new": n}
    from the worker   {"versions": {...}} once it is ready, then for each request
                      {"first_s", "seconds", "tokens"}, or {"error": "..."} and it ends

Given a tokenizer it says {"versions", "url"} once it is ready, and answers there until stdin ends
(`benchmarks.peers.front`).

Runs inside a peer's own virtual environment, so it needs the standard library alone. Knows nothing
of rounds, nor of any peer.
"""

import argparse
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Options:
    """What a peer is opened with; `max_tokens` is the longest sequence, prompt and all.

    `tokenizer` is the folder of one for a server that speaks text, None without HTTP.
    """

    checkpoint: Path
    work: Path
    precision: str
    num_threads: int
    max_sequences: int
    max_tokens: int
    tokenizer: Path | None

    @property
    def is_server(self) -> bool:
        """Whether people ask, whose prompts begin alike; by lines all of them are distinct."""
        return self.tokenizer is not None


class Model(Protocol):
    """A peer with the weights loaded; one thread opens it and calls it."""

    def add(self, key: int, prompt: Sequence[int], num_new: int) -> None:
        """Take a prompt that is to be continued by `num_new` greedy tokens, whatever they are."""
        ...

    def cancel(self, key: int) -> None:
        """Give up what was added and has not all its tokens."""
        ...

    def step(self) -> Iterable[tuple[int, int]]:
        """Work for a while: keys, and the next token of each; there is something to do."""
        ...


OpenModel = Callable[[Options], Model]


def serve(open_model: OpenModel, packages: Sequence[str], argv: Sequence[str] | None = None) -> int:
    """Open the model that the arguments name and answer until stdin ends; the exit status."""
    options = parse(argv)
    replies = take_stdout()

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    versions = {name: importlib.metadata.version(name) for name in packages}
    try:
        if options.is_server:
            from benchmarks.peers.front import serve_http  # noqa: PLC0415 (lines need no FastAPI)

            serve_http(open_model, options, lambda url: reply({"versions": versions, "url": url}))
        else:
            model = open_model(options)
            reply({"versions": versions})
            for line in sys.stdin:
                reply(_answer(model, json.loads(line)))
    except Exception as error:  # the process boundary: whoever started it tells
        reply({"error": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
        return 1
    return 0


def _answer(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    prompts, num_new = request["prompts"], request["num_new"]
    first_s: float | None = None
    started_s = time.perf_counter()
    for key, prompt in enumerate(prompts):
        model.add(key, prompt, num_new)
    tokens: list[list[int]] = [[] for _ in prompts]
    num_missing = num_new * len(prompts)
    while num_missing:
        for key, token in model.step():
            first_s = first_s or time.perf_counter() - started_s
            tokens[key].append(token)
            num_missing -= 1
    return {"first_s": first_s, "seconds": time.perf_counter() - started_s, "tokens": tokens}


def take_stdout() -> Any:
    """Standard output for the replies alone: what a library prints goes to stderr from now on."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def parse(argv: Sequence[str] | None = None) -> Options:
    """The words that every worker is started with."""
    parser = argparse.ArgumentParser(description="Started by `python -m benchmarks`.")
    parser.add_argument("checkpoint", type=Path, help="Hugging Face GPT-2 folder")
    parser.add_argument("work", type=Path, help="folder for what the peer makes of it")
    parser.add_argument("precision", help="one of the peer's own")
    for name in ("num_threads", "max_sequences", "max_tokens"):
        parser.add_argument(name, type=int, help=f"see Options.{name}")
    parser.add_argument("--tokenizer", type=Path, help="folder of one: answer over HTTP")
    return Options(**vars(parser.parse_args(argv)))
