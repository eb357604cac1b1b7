"""Token healing: a prompt that ends inside a word gives its last tokens back to the model.

Comes in: a tokenizer's vocabulary, and prompts as token ids. Goes out: the prompt without its last
tokens, the bytes that they were, and which tokens may come next while those bytes are written
again. "import nu" ends in tokens that no text of "import numpy" has there; without " nu" the model
may write " numpy" as it learned to (Lundberg 2023, "The Art of Prompt Design: Prompt Boundaries and
Token Healing"). Pure; knows nothing of logits or requests.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotriton.infill import cursor_span
from nanotriton.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Healed:
    """A prompt, and the bytes that its text lacks at the cursor: what is written begins with them.

    Without such bytes the prompt is as it came.
    """

    prompt: tuple[int, ...]
    missing: bytes = b""


class Healer:
    """The tokens of one vocabulary, sorted by their bytes; special ones have none and stay out."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pairs = sorted((raw, token) for token, raw in enumerate(tokenizer.table) if raw)
        self._tokenizer = tokenizer
        self._bytes = [raw for raw, _ in pairs]
        self._ids = np.array([token for _, token in pairs], np.int64)

    def take_back(self, prompt: Sequence[int]) -> Healed:
        """Take the tokens back that the text before the cursor may not end with.

        They hold the longest end of that text with which a longer token begins. Special tokens and
        a prompt's first token stay. Of a prompt with a hole it is the text before the hole.
        """
        table, span = self._tokenizer.table, cursor_span(prompt, self._tokenizer.special_tokens)
        first, tail = span.stop, b""
        while first > max(span.start, 1) and len(tail) < self._tokenizer.longest_token_bytes - 1:
            if not table[prompt[first - 1]]:
                break
            first -= 1
            tail = table[prompt[first]] + tail
        length = self._unfinished(tail)
        while first < span.stop and len(tail) - len(table[prompt[first]]) >= length:
            tail = tail[len(table[prompt[first]]) :]
            first += 1
        return Healed((*prompt[:first], *prompt[span.stop :]), tail)

    def allowed(self, missing: bytes) -> NDArray[np.int64]:
        """Ids of the tokens that may come where `missing` is to be written; at least one.

        Those that begin with it, and those that it begins with, if tokens exist for its rest.
        """
        start, stop = self._range(missing)
        can_go_on = self._can_go_on(missing)
        shorter = [self._find(missing[:end]) for end in range(1, len(missing)) if can_go_on[end]]
        return np.concatenate([self._ids[start:stop], *shorter])

    def _unfinished(self, tail: bytes) -> int:
        """Bytes of the longest end of `tail` with which a longer token begins; 0 for none."""
        for length in range(min(len(tail), self._tokenizer.longest_token_bytes - 1), 0, -1):
            start, stop = self._range(tail[-length:])
            if stop > start and len(self._bytes[stop - 1]) > length:
                return length
        return 0

    def _range(self, beginning: bytes) -> tuple[int, int]:
        """Where the tokens that begin so stand."""
        length = len(beginning)
        start = bisect_left(self._bytes, beginning)
        return start, bisect_right(self._bytes, beginning, lo=start, key=lambda raw: raw[:length])

    def _find(self, raw: bytes) -> NDArray[np.int64]:
        """The token of exactly these bytes, if there is one."""
        start, stop = bisect_left(self._bytes, raw), bisect_right(self._bytes, raw)
        return self._ids[start:stop]

    def _can_go_on(self, missing: bytes) -> list[bool]:
        """For each place in `missing` whether tokens write the rest, the last perhaps more."""
        can = [False] * len(missing)
        for at in reversed(range(len(missing))):
            start, stop = self._range(missing[at:])
            can[at] = stop > start or any(
                can[end] and len(self._find(missing[at:end])) for end in range(at + 1, len(missing))
            )
        return can
