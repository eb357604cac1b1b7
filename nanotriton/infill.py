"""A prompt with a hole: the text before the cursor, the text after it, and the marks between.

Comes in: token ids of both sides. Goes out: one prompt in the order that the model was trained
on, prefix - suffix - middle (PSM; Bavarian et al. 2022, https://arxiv.org/abs/2207.14255), and back
from such a prompt the part before the cursor. Works on ids alone, so the text of a mark inside a
user's text stays plain text. Knows nothing of limits or requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanotriton.errors import TokenizerError

FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
NUM_MARKERS = 3


@dataclass(frozen=True, slots=True)
class Markers:
    """The ids of the special tokens that part a prompt."""

    prefix: int
    suffix: int
    middle: int

    @classmethod
    def of(cls, special_tokens: Mapping[str, int]) -> "Markers":
        """Raises TokenizerError when one is missing."""
        names = (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)
        if missing := [name for name in names if name not in special_tokens]:
            raise TokenizerError(
                f"the tokenizer has no {', '.join(missing)}, without which no model fills in the "
                "middle: export the model with the tokenizer it was trained with, or with "
                "--infill no"
            )
        return cls(*(special_tokens[name] for name in names))

    def arrange(self, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """The prompt whose continuation is the middle, NUM_MARKERS longer than both sides."""
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle]


def has_markers(special_tokens: Mapping[str, int]) -> bool:
    """Whether a tokenizer has all that `Markers` needs."""
    return {FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE} <= special_tokens.keys()


def before_cursor(prompt: Sequence[int], special_tokens: Mapping[str, int]) -> Sequence[int]:
    """The ids that stand before what is generated: all, or those between prefix and suffix mark."""
    if not has_markers(special_tokens):
        return prompt
    markers = Markers.of(special_tokens)
    if prompt[0] != markers.prefix or markers.suffix not in prompt:
        return prompt
    return prompt[1 : prompt.index(markers.suffix)]
