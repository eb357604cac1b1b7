"""A prompt with a hole: the text before the cursor, the text after it, and the marks between.

Comes in: token ids of both sides. Goes out: one prompt in an order that the model was trained on,
prefix - suffix - middle (PSM) or suffix - prefix - middle (SPM; Bavarian et al. 2022,
https://arxiv.org/abs/2207.14255), and back from such a prompt the part before the cursor. SPM puts
the cursor at the end of the prompt: what somebody types is appended, so the prefix cache keeps all
the rest, and a small model goes on from the prefix as it does without a hole. Works on ids alone,
so the text of a mark inside a user's text stays plain text. Knows nothing of limits or requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nanotriton.errors import TokenizerError

FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
NUM_MARKERS = 3
PSM, SPM = "psm", "spm"


@dataclass(frozen=True, slots=True)
class Markers:
    """The ids of the special tokens that part a prompt, and whether the suffix stands first."""

    prefix: int
    suffix: int
    middle: int
    suffix_first: bool = False

    @classmethod
    def of(cls, special_tokens: Mapping[str, int], order: str = PSM) -> "Markers":
        """Raises TokenizerError when one is missing."""
        names = (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)
        if missing := [name for name in names if name not in special_tokens]:
            raise TokenizerError(
                f"the tokenizer has no {', '.join(missing)}, without which no model fills in the "
                "middle: export the model with the tokenizer it was trained with, or with "
                "--infill no"
            )
        prefix, suffix, middle = (special_tokens[name] for name in names)
        return cls(prefix, suffix, middle, suffix_first=order == SPM)

    def arrange(self, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """The prompt whose continuation is the middle, NUM_MARKERS longer than both sides."""
        if self.suffix_first:  # the paper's second SPM, as training/infill.py has it
            return [self.prefix, self.suffix, *suffix, self.middle, *prefix]
        return [self.prefix, *prefix, self.suffix, *suffix, self.middle]


def has_markers(special_tokens: Mapping[str, int]) -> bool:
    """Whether a tokenizer has all that `Markers` needs."""
    return {FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE} <= special_tokens.keys()


def before_cursor(prompt: Sequence[int], special_tokens: Mapping[str, int]) -> Sequence[int]:
    """The ids that stand before what is generated: all, or the prefix of a hole in either order."""
    span = cursor_span(prompt, special_tokens)
    return prompt[span.start : span.stop]


def cursor_span(prompt: Sequence[int], special_tokens: Mapping[str, int]) -> range:
    """Where in a prompt `before_cursor` stands: from its beginning on, if there is no hole."""
    everything = range(len(prompt))
    if not has_markers(special_tokens):
        return everything
    markers = Markers.of(special_tokens)
    if prompt[0] != markers.prefix or markers.suffix not in prompt:
        return everything
    if prompt[1] == markers.suffix and markers.middle in prompt:
        return everything[prompt.index(markers.middle) + 1 :]
    return everything[1 : prompt.index(markers.suffix)]
