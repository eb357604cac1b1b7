"""Held-out token ids in; how well a model foresees them out: nats, and how often it is right.

Bits are told per byte of text, so that models with other tokenizers, and compressors, compare.
Every predictor is measured on the same tokens, from the first one on: an end-of-text stands before
it. Knows nothing of files.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from training.gpt import GPT
from training.ngram import Trigram
from training.progress import track

Tokens = npt.NDArray[np.uint16]
LOGITS_AT_ONCE = 2**23  # 32 MiB of float32: batches above it gain no speed on a CPU


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How well ``num_tokens`` were foreseen, in nats over all of them, and how many were first."""

    nats: float
    num_tokens: int
    num_correct: int
    num_bytes: int

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / self.num_bytes

    @property
    def perplexity(self) -> float:
        """Per token: it depends on the tokenizer."""
        return math.exp(self.nats / self.num_tokens)

    @property
    def accuracy(self) -> float:
        """Share of tokens that were the likeliest one at their place."""
        return self.num_correct / self.num_tokens


@dataclass(frozen=True, slots=True)
class Window:
    """Places ``start`` to ``stop`` are read at once; those from ``scored`` on are measured."""

    start: int
    scored: int
    stop: int


def windows(num_tokens: int, size: int, stride: int) -> Iterator[Window]:
    """Windows of one size (shorter only if there are fewer tokens); each place is scored once."""
    stop = min(size, num_tokens)
    yield Window(0, 0, stop)
    while stop < num_tokens:
        scored, stop = stop, min(stop + stride, num_tokens)
        yield Window(stop - size, scored, stop)


@torch.no_grad()
def measure_model(model: GPT, tokens: Tokens, end_of_text: int, num_bytes: int) -> Likelihood:
    """Teacher-forced, in windows of the whole context that advance by half of it."""
    size = model.config.block_size
    stream = np.concatenate(([end_of_text], tokens)).astype(np.int64)  # (N + 1,)
    todo = list(windows(len(tokens), size, stride=max(size // 2, 1)))
    batch_size = max(LOGITS_AT_ONCE // (size * model.config.vocab_size), 1)
    batches = [todo[first : first + batch_size] for first in range(0, len(todo), batch_size)]
    nats, num_correct = 0.0, 0
    for batch in track(batches, len(batches), "batches of held-out text"):
        measured = _measure_batch(model, stream, batch)
        nats += measured.nats
        num_correct += measured.num_correct
    return Likelihood(nats, len(tokens), num_correct, num_bytes)


@dataclass(frozen=True, slots=True)
class _Measured:
    nats: float
    num_correct: int


def _measure_batch(model: GPT, stream: npt.NDArray[np.int64], batch: Sequence[Window]) -> _Measured:
    """Over the scored places of all windows, which are equally long."""
    rows = np.stack([stream[window.start : window.stop + 1] for window in batch])
    ids = torch.from_numpy(rows)  # (B, T + 1)
    all_logits = model(ids[:, :-1])  # (B, T, V)
    nats, num_correct = 0.0, 0
    for window, row, targets in zip(batch, all_logits, ids[:, 1:], strict=True):
        skipped = window.scored - window.start
        logits, wanted = row[skipped:].float(), targets[skipped:]  # (T', V) and (T',)
        nats += float(F.cross_entropy(logits, wanted, reduction="none").double().sum())
        num_correct += int((logits.argmax(dim=-1) == wanted).sum())
    return _Measured(nats, num_correct)


def measure_trigram(trigram: Trigram, tokens: Tokens, num_bytes: int) -> Likelihood:
    nats = -float(np.log(trigram.probabilities(tokens)).sum())
    num_correct = int((trigram.likeliest(tokens) == tokens).sum())
    return Likelihood(nats, len(tokens), num_correct, num_bytes)


def zlib_bits_per_byte(text: bytes) -> float:
    """Of the text at level 9, which is `gzip -9` but for its header of 18 bytes."""
    return 8 * len(zlib.compress(text, level=9)) / len(text)
