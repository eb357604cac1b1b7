"""Texts in, one after another; which earlier one each nearly repeats out.

MinHash over runs of five words (Broder 1997, with locality-sensitive hashing), as the code corpora
The Stack and CodeParrot are cleaned. Knows nothing of files or of splits.
"""

import hashlib
import re
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from datasketch import MinHash, MinHashLSH

SHINGLE_WORDS = 5
# Shorter texts say too little to resemble another: only their exact copies go (as CodeParrot's).
MIN_WORDS = 10
NUM_PERMUTATIONS = 128  # the estimate's standard error is at most 1 / (2 sqrt(128)) = 0.044
# The index looks for this much less, and sketches are compared after it: at 0.85 it then misses a
# pair in 10^4 instead of one in 7, at the price of more comparisons.
_INDEX_MARGIN = 0.15
_WEIGHTS = (0.1, 0.9)  # of false and of missed candidates
_WORD = re.compile(r"\w+")
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio, odd: spreads every bit upwards


@dataclass(frozen=True, slots=True)
class Repeat:
    """The name of the earlier text, and whether it is the same to the byte."""

    of: str
    is_exact: bool


class Repeats:
    """The texts kept so far; ``threshold`` is a Jaccard similarity, 1 finds exact copies only."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._names: list[str] = []
        self._exact: dict[bytes, str] = {}
        self._sketches: dict[int, MinHash] = {}
        self._index = MinHashLSH(
            threshold - _INDEX_MARGIN, num_perm=NUM_PERMUTATIONS, weights=_WEIGHTS
        )

    def find_or_add(self, name: str, text: str) -> Repeat | None:
        """The earliest text that this one repeats, or None once this one is remembered."""
        digest = hashlib.sha256(text.encode()).digest()
        if digest in self._exact:
            return Repeat(self._exact[digest], is_exact=True)
        if self._threshold < 1.0:
            similar = self._find_or_add_sketch(len(self._names), text)
            if similar is not None:
                return Repeat(self._names[similar], is_exact=False)
        self._exact[digest] = name
        self._names.append(name)
        return None

    def _find_or_add_sketch(self, key: int, text: str) -> int | None:
        shingles = _shingles(text)
        if not len(shingles):
            return None
        sketch = MinHash(NUM_PERMUTATIONS, hashfunc=int)  # they are hashes already
        sketch.update_batch(shingles.tolist())
        similar: list[int] = [
            other
            for other in self._index.query(sketch)
            if sketch.jaccard(self._sketches[other]) >= self._threshold
        ]
        if similar:
            return min(similar)
        self._index.insert(key, sketch)
        self._sketches[key] = sketch
        return None


def _shingles(text: str) -> npt.NDArray[np.uint64]:
    """32-bit hashes of the runs of SHINGLE_WORDS words, each once; none for a short text."""
    words = _WORD.findall(text)
    if len(words) < MIN_WORDS:
        return np.empty(0, np.uint64)
    hashes = np.fromiter((zlib.crc32(word.encode()) for word in words), np.uint64, len(words))
    num_runs = len(words) - SHINGLE_WORDS + 1
    mixed = np.zeros(num_runs, np.uint64)
    for i in range(SHINGLE_WORDS):  # arrays of uint64 wrap silently, as hashing wants
        mixed = (mixed ^ hashes[i : i + num_runs]) * _MIX
        mixed ^= mixed >> np.uint64(29)
    distinct: npt.NDArray[np.uint64] = np.unique(mixed >> np.uint64(32))
    return distinct
