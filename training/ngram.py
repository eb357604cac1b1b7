"""Token ids in; an interpolated Kneser-Ney trigram model of them out: the baseline of ``evaluate``.

As in Chen and Goodman 1998 ("An Empirical Study of Smoothing Techniques for Language Modeling",
TR-10-98), with one absolute discount an order. Every distribution sums to 1 and gives every id some
probability. Knows nothing of text or of the model it is held against.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
AnyIds = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]

# Ney's estimate leaves this range only where nearly no count is 1 or 2: in toy corpora.
MIN_DISCOUNT, MAX_DISCOUNT = 0.1, 0.9


@dataclass(frozen=True, slots=True)
class Order:
    """What contexts of one length foresee; an entry is one (context, token) that was seen.

    ``keys`` (N,) are context * V + token, sorted; ``shares`` (N,) the entries' own probability.
    ``contexts`` (C,) are sorted; context i owns the entries ``starts[i]`` to ``starts[i + 1]`` and
    hands ``left_over[i]`` of its probability to the order below.
    """

    vocab_size: int
    keys: Ids
    shares: Floats
    contexts: Ids
    starts: Ids
    left_over: Floats

    @classmethod
    def fit(cls, keys: Ids, counts: Ids, vocab_size: int) -> "Order":
        """From sorted, distinct keys and how often each was seen."""
        contexts, starts = np.unique(keys // vocab_size, return_index=True)
        totals = np.add.reduceat(counts, starts)
        num_entries = np.diff(starts, append=len(keys))
        discount = estimate_discount(counts)
        return cls(
            vocab_size=vocab_size,
            keys=keys,
            shares=(counts - discount) / np.repeat(totals, num_entries),
            contexts=contexts,
            starts=np.append(starts, len(keys)),
            left_over=discount * num_entries / totals,
        )

    def interpolate(self, context: int, below: Floats) -> Floats:
        """The distribution (V,) after ``context``, given that of the order below (V,)."""
        at = int(np.searchsorted(self.contexts, context))
        if at == len(self.contexts) or self.contexts[at] != context:
            return below
        entries = slice(self.starts[at], self.starts[at + 1])
        mixed: Floats = below * self.left_over[at]
        mixed[self.keys[entries] % self.vocab_size] += self.shares[entries]
        return mixed

    def interpolate_each(self, contexts: Ids, tokens: Ids, below: Floats) -> Floats:
        """The probability (T,) of each token after its context, given the order below's (T,)."""
        context_at = np.searchsorted(self.contexts, contexts).clip(max=len(self.contexts) - 1)
        is_known = self.contexts[context_at] == contexts
        keys = contexts * self.vocab_size + tokens
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        shares = np.where(self.keys[at] == keys, self.shares[at], 0.0)
        return np.where(is_known, shares + self.left_over[context_at] * below, below)


def estimate_discount(counts: Ids) -> float:
    """Ney's n1 / (n1 + 2 n2), where n1 entries were seen once and n2 twice."""
    once, twice = np.count_nonzero(counts == 1), np.count_nonzero(counts == 2)
    return float(np.clip(once / max(once + 2 * twice, 1), MIN_DISCOUNT, MAX_DISCOUNT))


@dataclass(frozen=True, slots=True)
class Trigram:
    """P(token | the two before); ``end_of_text`` stands before the first token of a stream."""

    end_of_text: int
    unigram: Floats  # (V,)
    bigrams: Order
    trigrams: Order

    @classmethod
    def fit(cls, tokens: AnyIds, vocab_size: int, end_of_text: int) -> "Trigram":
        """``tokens`` (N,), N > 0. The orders below count in how many contexts a token was seen.

        Sorts all trigrams in memory.
        """
        pairs, ids = _contexts(tokens, vocab_size, end_of_text)
        keys, counts = np.unique(pairs * vocab_size + ids, return_counts=True)
        short_keys, num_contexts = np.unique(keys % vocab_size**2, return_counts=True)
        return cls(
            end_of_text=end_of_text,
            unigram=_unigram(short_keys % vocab_size, vocab_size),
            bigrams=Order.fit(short_keys, num_contexts, vocab_size),
            trigrams=Order.fit(keys, counts, vocab_size),
        )

    @property
    def vocab_size(self) -> int:
        return len(self.unigram)

    def distribution(self, before_last: int, last: int) -> Floats:
        """The probability (V,) of every token after these two."""
        below = self.bigrams.interpolate(last, self.unigram)
        return self.trigrams.interpolate(before_last * self.vocab_size + last, below)

    def probabilities(self, tokens: AnyIds) -> Floats:
        """The probability (N,) of each token of a stream (N,) after those before it."""
        pairs, ids = _contexts(tokens, self.vocab_size, self.end_of_text)
        below = self.bigrams.interpolate_each(pairs % self.vocab_size, ids, self.unigram[ids])
        return self.trigrams.interpolate_each(pairs, ids, below)

    def likeliest(self, tokens: AnyIds) -> Ids:
        """The likeliest token (N,) at each place of a stream (N,)."""
        pairs, _ = _contexts(tokens, self.vocab_size, self.end_of_text)
        distinct, places = np.unique(pairs, return_inverse=True)
        best = [
            self.distribution(*divmod(int(pair), self.vocab_size)).argmax() for pair in distinct
        ]
        return np.array(best, dtype=np.int64)[places]


def _contexts(tokens: AnyIds, vocab_size: int, end_of_text: int) -> tuple[Ids, Ids]:
    """The two tokens before each as one number (N,), and the tokens as int64 (N,)."""
    ids = np.concatenate(([end_of_text, end_of_text], tokens)).astype(np.int64)
    return ids[:-2] * vocab_size + ids[1:-1], ids[2:]


def _unigram(tokens_of_bigrams: Ids, vocab_size: int) -> Floats:
    """By the number of distinct tokens before each; what the discount frees goes to all alike."""
    counts = np.bincount(tokens_of_bigrams, minlength=vocab_size)
    discount = estimate_discount(counts)
    left_over = discount * np.count_nonzero(counts) / counts.sum()
    shares: Floats = np.maximum(counts - discount, 0.0) / counts.sum()
    smoothed: Floats = shares + left_over / vocab_size
    return smoothed


@dataclass(slots=True)
class TrigramPredictor:
    """The trigram model as a Predictor: remembers the last two tokens of every row."""

    trigram: Trigram
    _pairs: list[tuple[int, int]] = field(init=False, repr=False, default_factory=list)

    def begin(self, rows: Sequence[Sequence[int]]) -> Floats:
        end = self.trigram.end_of_text
        self._pairs = [((end, *row)[-2], row[-1]) for row in rows]
        return self._distributions()

    def advance(self, tokens: Sequence[int]) -> Floats:
        self._pairs = [(pair[1], token) for pair, token in zip(self._pairs, tokens, strict=True)]
        return self._distributions()

    def _distributions(self) -> Floats:
        rows = np.stack([self.trigram.distribution(*pair) for pair in self._pairs])  # (B, V)
        logs: Floats = np.log(rows)
        return logs
