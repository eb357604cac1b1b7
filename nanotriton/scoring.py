"""Pairs of a text and a continuation in, the tensors that the scoring graph takes out.

The continuation is tokenized by itself, as the model writes it behind a prompt. Rows are padded on
their right, where no earlier token looks. Knows nothing of Triton or of the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotriton.contract import CONTINUATION, TEXT_INPUT
from nanotriton.errors import InvalidRequest
from nanotriton.manifest import Manifest
from nanotriton.tokenizer import Tokenizer

# Rows are filled up to a multiple of so many tokens: requests of one shape share a batch.
TOKENS_STEP = 32
TARGETS_STEP = 8
NO_TARGET = -1


@dataclass(frozen=True, slots=True)
class ScoreLimits:
    """Most tokens that the graph reads, and most that it scores."""

    context: int
    max_targets: int

    @classmethod
    def of(cls, manifest: Manifest) -> "ScoreLimits":
        """A plan scores as many tokens as it was built for."""
        plan = manifest.plan
        return cls(manifest.context, plan.prefill_chunk if plan else manifest.context)


@dataclass(frozen=True, slots=True)
class Pair:
    """Token ids of a text and of its continuation."""

    text: Sequence[int]
    continuation: Sequence[int]

    @property
    def num_tokens(self) -> int:
        """Tokens that are scored."""
        return len(self.continuation)

    @property
    def num_read(self) -> int:
        """Tokens that the model reads: all but the last."""
        return len(self.text) + len(self.continuation) - 1


@dataclass(frozen=True, slots=True)
class PaddedPairs:
    """input_ids (B, T), places and targets (B, C), int64."""

    input_ids: NDArray[np.int64]
    places: NDArray[np.int64]
    targets: NDArray[np.int64]


def encode_pair(text: str, continuation: str, tokenizer: Tokenizer, limits: ScoreLimits) -> Pair:
    """Tokenize; raises InvalidRequest for what is empty, holds NUL or is too long."""
    room = limits.context * tokenizer.longest_token_bytes
    for name, one in ((TEXT_INPUT, text), (CONTINUATION, continuation)):
        if not one:
            raise InvalidRequest(f"{name} is empty: send at least one character")
        if (position := one.find("\0")) >= 0:
            raise InvalidRequest(f"{name} holds a NUL character at {position}: leave it out")
        if (size := len(one.encode())) > room:
            raise InvalidRequest(
                f"{name} has {size} bytes, the model reads at most {limits.context} tokens: "
                "shorten it"
            )
    pair = Pair(tokenizer.encode(text), tokenizer.encode(continuation))
    if pair.num_tokens > limits.max_targets:
        raise InvalidRequest(
            f"{CONTINUATION} has {pair.num_tokens} tokens, at most {limits.max_targets} are "
            "scored: shorten it"
        )
    if pair.num_read > limits.context:
        raise InvalidRequest(
            f"{TEXT_INPUT} and {CONTINUATION} have {pair.num_read} tokens before the last, the "
            f"model reads at most {limits.context}: shorten them"
        )
    return pair


def pad_pairs(pairs: Sequence[Pair], limits: ScoreLimits) -> PaddedPairs:
    """One row a pair: its tokens but the last, and where each of the continuation is decided."""
    num_read = _round_up(max(one.num_read for one in pairs), TOKENS_STEP, limits.context)
    num_asked = _round_up(max(one.num_tokens for one in pairs), TARGETS_STEP, limits.max_targets)
    padded = PaddedPairs(
        np.zeros((len(pairs), num_read), np.int64),
        np.zeros((len(pairs), num_asked), np.int64),
        np.full((len(pairs), num_asked), NO_TARGET, np.int64),
    )
    for row, one in enumerate(pairs):
        count = one.num_tokens
        padded.input_ids[row, : one.num_read] = [*one.text, *one.continuation[:-1]]
        padded.places[row, :count] = len(one.text) - 1 + np.arange(count)
        padded.targets[row, :count] = one.continuation
    return padded


def _round_up(size: int, step: int, most: int) -> int:
    return min(-(-size // step) * step, most)
