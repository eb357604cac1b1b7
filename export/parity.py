"""An artifact and its checkpoint in, a report of how far they differ out.

The artifact runs through its own runner as the engine would drive it: several slots, prompts in
chunks while other slots go on token by token, so the cache path itself is proved. The reference is
plain NumPy, teacher-forced; a generated token that it would have picked but for a tie (`TIE`)
counts as equal. Knows nothing of repositories, nor of what difference is allowed
(`export.comparison`).
"""

import heapq
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from export.checkpoint import Checkpoint
from export.comparison import Report, Tally
from export.reference import Reference
from export.vocabulary import Vocabulary
from nanotriton.errors import ArtifactError, ParityError
from nanotriton.runners.base import Batch, Chunk, Decode, Runner

Ids = NDArray[np.int64]
Progress = Callable[[str], None]

CHUNK = 48  # not a divisor of the windows, so that last chunks are short
NUM_DECODED = 24
MAX_WINDOW = 256
MIN_CONTEXT = 8
NUM_GENERATED = 32
MAX_ROWS = 1 << 16  # of a call that takes all there are
# A generated token counts as the reference's choice when the reference's best logit is at most
# this much larger: below it float32 sums in another order decide (measured: 1e-5 at 124M).
TIE = 1e-4
DEFAULT_SOURCES = (heapq, textwrap)


def measure_parity(
    checkpoint: Checkpoint, runner: Runner, text: str, max_tokens: int, progress: Progress
) -> Report:
    """Compare on about `max_tokens` tokens of `text`; raises ParityError when it is too short."""
    reference = Reference(checkpoint)
    windows = cut_windows(encode_known(checkpoint.vocabulary, text), runner, max_tokens)
    tally = Tally()
    num_done = 0
    for start in range(0, len(windows), runner.num_slots):
        group = windows[start : start + runner.num_slots]
        for window, served in zip(group, serve(runner, group), strict=True):
            _compare(tally, reference, window, served)
            num_done += len(window)
        progress(f"parity: compared {num_done} of {sum(map(len, windows))} tokens")
    prompts = [window[: len(window) // 2] for window in windows[: runner.num_slots]]
    matches = match_greedy(reference, prompts, generate(runner, prompts))
    progress(f"parity: compared {len(matches)} greedy tokens")
    return tally.report(matches)


def default_text() -> str:
    """Real code that every machine has: two modules of the standard library."""
    return source_text(DEFAULT_SOURCES)


def source_text(modules: Sequence[ModuleType]) -> str:
    """The sources of some modules."""
    return "\n".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in modules)


def read_text(path: Path, option: str) -> str:
    """A file that `option` named; raises ArtifactError when it is no UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ArtifactError(f"{path} is no UTF-8 text: give another {option}") from None


def encode_known(vocabulary: Vocabulary, text: str) -> Ids:
    """Ids of a text; characters that a char vocabulary lacks are dropped."""
    characters = vocabulary.characters
    if characters is not None:
        text = "".join(char for char in text if char in characters)
    return np.array(vocabulary.tokenizer.encode(text), np.int64)


def cut_windows(ids: Ids, runner: Runner, max_tokens: int) -> list[Ids]:
    """Cut into sequences of different lengths, so that slots are never in step."""
    windows: list[Ids] = []
    longest = min(MAX_WINDOW, runner.context)
    if longest < MIN_CONTEXT:
        raise ParityError(
            f"the model's context is {runner.context}, parity needs at least {MIN_CONTEXT}: "
            "train one with a longer context"
        )
    start = 0
    while start < min(len(ids), max_tokens):
        length = max(2, longest - 7 * (len(windows) % runner.num_slots))
        windows.append(ids[start : start + length])
        start += length
    if windows and len(windows[-1]) < longest // 2:
        windows.pop()
    if not windows:
        raise ParityError(
            f"the text has {len(ids)} tokens of this vocabulary, parity needs at least "
            f"{longest // 2}: give a longer one with --text"
        )
    return windows


@dataclass(frozen=True, slots=True)
class Served:
    """What a runner said of one window: logits (T, V) and log-sum-exp (T,)."""

    logits: NDArray[np.float32]
    lse: NDArray[np.float32]


def serve(runner: Runner, windows: Sequence[Ids]) -> list[Served]:
    """Window s, (T,), through slot s: each in chunks while those before it decode their ends."""
    served = [
        Served(
            np.empty((len(window), runner.vocab_size), np.float32),
            np.empty(len(window), np.float32),
        )
        for window in windows
    ]
    num_decoded = min(NUM_DECODED, min(map(len, windows)) // 2)
    lengths = np.zeros(len(windows), np.int32)
    for slot, window in enumerate(windows):
        prompt = window[: len(window) - num_decoded]
        for start in range(0, len(prompt), CHUNK):
            chunk = Chunk(slot, prompt[start : start + CHUNK], start)
            _note(served, lengths, runner, chunk, _next_tokens(windows[:slot], lengths))
    while tokens := _next_tokens(windows, lengths):
        _note(served, lengths, runner, None, tokens)
    return served


def _next_tokens(windows: Sequence[Ids], lengths: NDArray[np.int32]) -> dict[int, int]:
    """By its slot the next token of each window that isn't at its end."""
    return {
        slot: int(window[length])
        for slot, (window, length) in enumerate(zip(windows, lengths, strict=False))
        if length < len(window)
    }


def _note(
    served: Sequence[Served],
    lengths: NDArray[np.int32],
    runner: Runner,
    chunk: Chunk | None,
    tokens: Mapping[int, int],
) -> None:
    """Run a chunk and a token of each of some slots; note what came of all, and their lengths."""
    places = [(chunk.slot, at) for at in range(chunk.past_length, chunk.length)] if chunk else []
    rows = np.arange(len(places))
    decode = None
    if tokens:
        first, last = min(tokens), max(tokens)
        ids = np.array([tokens.get(slot, 0) for slot in range(first, last + 1)])
        decode = Decode(first, ids, lengths[first : last + 1].copy())
        rows = np.append(rows, len(places) + np.array([*tokens]) - first)
        places += [(slot, int(lengths[slot])) for slot in tokens]
    found = runner.run(Batch(rows, chunk, decode, full_logits=True))
    assert found.full is not None
    for row, (slot, at) in enumerate(places):
        served[slot].logits[at] = found.full[row]
        served[slot].lse[at] = found.lse[row]
        lengths[slot] = at + 1


def generate(
    runner: Runner, prompts: Sequence[Ids], rows_a_call: Sequence[int] = (MAX_ROWS,)
) -> list[Ids]:
    """The runner's greedy continuation of every prompt, from its candidates alone.

    Prompt s goes to slot s; a decode step is made in calls of at most so many rows, and
    `rows_a_call` has the numbers of the steps in turn.
    """
    room = runner.context - max(map(len, prompts))
    tokens = np.empty((len(prompts), min(NUM_GENERATED, room)), np.int64)
    for slot, prompt in enumerate(prompts):
        for start in range(0, len(prompt), CHUNK):
            chunk = Chunk(slot, prompt[start : start + CHUNK], start)
            found = runner.run(Batch(np.array([len(chunk.input_ids) - 1]), chunk))
        tokens[slot, 0] = found.tokens[0, 0]
    lengths = np.array([len(prompt) for prompt in prompts], np.int32)
    for step in range(1, tokens.shape[1]):
        num_rows = rows_a_call[step % len(rows_a_call)]
        for first in range(0, len(prompts), num_rows):
            part = slice(first, first + num_rows)
            rows = np.arange(len(lengths[part]))
            decode = Decode(first, tokens[part, step - 1], lengths[part])
            found = runner.run(Batch(rows, decode=decode))
            tokens[part, step] = found.tokens[:, 0]
        lengths += 1
    return list(tokens)


def match_greedy(
    reference: Reference, prompts: Sequence[Ids], generated: Sequence[Ids]
) -> NDArray[np.bool_]:
    """For every generated token, whether the reference would have picked it (ties allowed)."""
    matches = []
    for prompt, tokens in zip(prompts, generated, strict=True):
        hidden = reference.hidden(np.concatenate([prompt, tokens[:-1]]))[len(prompt) - 1 :]
        logits = reference.logits(hidden)
        picked = np.take_along_axis(logits, tokens[:, None], axis=1)[:, 0]
        matches.append(logits.max(axis=1) - picked < TIE)
    return np.concatenate(matches)


def _compare(tally: Tally, reference: Reference, window: Ids, served: Served) -> None:
    hidden = reference.hidden(window)
    for start in range(0, len(window), CHUNK):
        rows = slice(start, start + CHUNK)
        targets = window[start + 1 : start + 1 + CHUNK]
        tally.add(reference.logits(hidden[rows]), served.logits[rows], served.lse[rows], targets)
