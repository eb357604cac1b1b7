"""Blocks of token ids in, the same with some documents rearranged for fill-in-the-middle out.

A document is cut into prefix, middle and suffix, and the middle moves to the end (Bavarian et al.
2022, https://arxiv.org/abs/2207.14255). It happens inside a block, after packing ("context-level"),
so that a middle and both its sides always stand in the same context. Cuts fall between tokens, not
between characters: ids alone do not tell the text. Knows nothing of files, steps or processes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.bpe import END_OF_TEXT
from training.errors import TokenizerError

Ids = npt.NDArray[np.int64]
NUM_MARKERS = 3  # prefix, suffix, middle
FIM_TOKENS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")


@dataclass(frozen=True, slots=True)
class Markers:
    """The ids that structure a block."""

    end_of_text: int
    prefix: int
    suffix: int
    middle: int

    def ask(self, prefix: list[int], suffix: list[int], *, suffix_first: bool) -> list[int]:
        """The prompt whose continuation is the middle, in one of the orders of training."""
        if suffix_first:
            return [self.prefix, self.suffix, *suffix, self.middle, *prefix]
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle]

    @classmethod
    def of(cls, special_tokens: Mapping[str, int]) -> "Markers":
        """Raises TokenizerError when the tokenizer has not all of them."""
        names = (END_OF_TEXT, *FIM_TOKENS)
        if missing := [name for name in names if name not in special_tokens]:
            raise TokenizerError(
                f"the tokenizer has no {', '.join(missing)}: set fim_rate=0 or use a tokenizer "
                "of `python -m training tokenizer`"
            )
        return cls(*(special_tokens[name] for name in names))


@dataclass(frozen=True, slots=True)
class Infill:
    """How often to rearrange: ``rate`` of the documents, ``spm_rate`` of those suffix first."""

    rate: float
    spm_rate: float
    markers: Markers

    def apply(self, block: Ids, generator: np.random.Generator) -> Ids:
        """(T,) -> (T,). What the markers push out is missing at the end of the last document."""
        out: list[Ids] = []
        room = len(block)
        for piece in split_documents(block, self.markers.end_of_text):
            ends = piece[-1] == self.markers.end_of_text
            body = (piece[:-1] if ends else piece)[: max(room - NUM_MARKERS - 1, 0)]
            if len(body) and generator.random() < self.rate:
                piece = self._rearrange(body, generator)  # noqa: PLW2901
            out.append(piece[:room])
            room -= len(out[-1])
            if not room:
                break
        return np.concatenate(out)

    def _rearrange(self, body: Ids, generator: np.random.Generator) -> Ids:
        """(N,) -> (N + 4,): markers, the three parts, and always an end: the middle is complete."""
        first, second = np.sort(generator.integers(0, len(body) + 1, size=2))
        prefix, middle, suffix = np.split(body, [first, second])
        mark = self.markers
        if generator.random() < self.spm_rate:
            # the paper's second SPM: the prefix runs on into the middle, no marker between them
            context = [[mark.prefix, mark.suffix], suffix, [mark.middle], prefix]
        else:
            context = [[mark.prefix], prefix, [mark.suffix], suffix, [mark.middle]]
        return np.concatenate([*context, middle, [mark.end_of_text]]).astype(np.int64)


def split_documents(block: Ids, end_of_text: int) -> list[Ids]:
    """Cut after every end-of-text; the last piece may lack it."""
    cuts = np.flatnonzero(block == end_of_text) + 1
    return [piece for piece in np.split(block, cuts) if len(piece)]
