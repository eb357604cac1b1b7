"""A cursor inside a word: what token healing brings where real lines are cut at any character.

Comes in: an exported version and Python files. Goes out: how often the greedy completion is what
the author wrote, with and without healing, of cuts that fall inside a token of the whole text and
of those between two. Runs in this process, without a server.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.events import Failure
from nanotriton.engine.request import Request, Settings
from nanotriton.runners.ort import OrtRunner
from nanotriton.tokenizer import Tokenizer, load_tokenizer

NUM_CHARACTERS = 10
LEAST_LINE = 6  # characters, indentation left out
MAX_TOKENS = 24
NUM_SLOTS = 8


@dataclass(frozen=True, slots=True)
class Cut:
    """A text up to its cursor, what follows, and whether the cursor is inside a token of both."""

    before: str
    after: str
    is_inside: bool


@dataclass(frozen=True, slots=True)
class Row:
    """Shares of cuts whose next characters, up to the line's end, or whole line came out right."""

    cuts: str
    healing: bool
    num_cuts: int
    characters: float
    line: float


def measure_healing(
    folder: Path, files: Sequence[Path], num_cuts: int, seed: int, num_threads: int
) -> list[Row]:
    """Complete every cut with and without healing."""
    tokenizer = load_tokenizer(folder)
    runner = OrtRunner(folder, NUM_SLOTS, num_threads)
    texts = [file.read_text(encoding="utf-8") for file in files]
    cuts = draw_cuts(texts, num_cuts, np.random.default_rng(seed), tokenizer)
    rows = []
    for healing in (False, True):
        settings = Settings(MAX_TOKENS, stop_at="line", token_healing=healing)
        found = _complete(runner, tokenizer, cuts, settings)
        rows += [_row(name, healing, cuts, found) for name in ("inside", "between", "all")]
    return sorted(rows, key=lambda row: row.cuts)


def draw_cuts(
    texts: Sequence[str], num_cuts: int, random: np.random.Generator, tokenizer: Tokenizer
) -> list[Cut]:
    """Random places in random lines, none before a line's first character or at its end."""
    cuts: list[Cut] = []
    while len(cuts) < num_cuts:
        text = texts[random.integers(len(texts))]
        lines = text.splitlines(keepends=True)
        number = int(random.integers(len(lines)))
        indent = len(lines[number]) - len(lines[number].lstrip())
        length = len(lines[number].rstrip())
        if length - indent >= LEAST_LINE:
            place = sum(map(len, lines[:number])) + int(random.integers(indent + 1, length))
            cuts.append(_cut(text, place, tokenizer))
    return cuts


def _cut(text: str, place: int, tokenizer: Tokenizer) -> Cut:
    length = len(text[:place].encode())
    sizes = [len(tokenizer.table[token]) for token in tokenizer.encode(text)]
    return Cut(text[:place], text[place:], length not in np.cumsum(sizes))


def _complete(
    runner: OrtRunner, tokenizer: Tokenizer, cuts: Sequence[Cut], settings: Settings
) -> list[str]:
    options = EngineOptions(max_waiting=len(cuts))
    engine = Engine(runner, tokenizer, lambda: 0, lambda: 0.0, options)
    found = [""] * len(cuts)
    for number, cut in enumerate(cuts):
        # What the longest prompt could need; the engine cuts the rest.
        end = cut.before[-runner.context * tokenizer.longest_token_bytes :]
        prompt = tokenizer.encode(end)[-runner.context + MAX_TOKENS :]
        engine.submit(Request((b"", number), tuple(prompt), settings))
    while engine.has_work:
        for event in engine.step():
            if isinstance(event, Failure):
                raise event.error
            found[event.key[1]] += event.text
    return found


def _row(name: str, healing: bool, cuts: Sequence[Cut], found: Sequence[str]) -> Row:
    pairs = [
        (cut.after.splitlines()[0], text)
        for cut, text in zip(cuts, found, strict=True)
        if name == "all" or cut.is_inside == (name == "inside")
    ]
    characters = [text[:NUM_CHARACTERS] == after[:NUM_CHARACTERS] for after, text in pairs]
    lines = [text == after for after, text in pairs]
    return Row(name, healing, len(pairs), float(np.mean(characters)), float(np.mean(lines)))
