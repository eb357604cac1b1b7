"""Prompt-lookup speculation: what a sequence may write next, guessed from what it holds already.

Comes in: one sequence's tokens, its prompt's suffix among them. Goes out: a draft of the next
tokens, and how much of it is worth verifying. Code repeats itself, so the tokens that followed the
same few tokens earlier are a good guess (Saxena 2023, "Prompt Lookup Decoding"). A draft only ever
saves time: the text is decided by the model's own logits. Knows nothing of batches or clocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nanotriton.engine.costs import StepCosts

MAX_DRAFT = 8
# Few lengths, so that the runner's bindings of each shape are met again.
LENGTHS = (1, 2, 4, MAX_DRAFT)
NGRAMS = (3, 2)  # the longer one knows better
FIRST_ACCEPTANCE = 0.5
# One guess moves the acceptance by this share: it forgets what lies more than a few lines back.
ACCEPTANCE_RATE = 1 / 8
# A step with a draft must look so many times as fast: costs are estimates, guessing takes time too.
MARGIN = 1.1


class Drafter:
    """Drafts for one sequence, whose growing list of tokens it reads.

    Every draft is scored against what came, also when it was not verified: so speculation that
    stopped because it lost begins again where the text repeats itself again.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self.acceptance = FIRST_ACCEPTANCE
        self._tokens = tokens
        self._text = ""  # a character for each token: strings are searched at once
        self._draft: list[int] = []
        self._drafted_at = 0

    def propose(self) -> list[int]:
        """MAX_DRAFT tokens that may follow, or none when nothing like the end came before."""
        if self._drafted_at < len(self._tokens):
            self._score()
            self._text += "".join(map(chr, self._tokens[len(self._text) :]))
            self._draft = self._continuation()
            self._drafted_at = len(self._tokens)
        return self._draft

    def _score(self) -> None:
        for guess, token in zip(self._draft, self._tokens[self._drafted_at :], strict=False):
            self.acceptance += ((guess == token) - self.acceptance) * ACCEPTANCE_RATE
            if guess != token:
                return

    def _continuation(self) -> list[int]:
        """What followed the sequence's last n-gram before; a draft that reaches the end goes on."""
        num_tokens = len(self._text)
        for n in NGRAMS:
            # Not the end itself, which nothing follows yet.
            start = self._text.rfind(self._text[-n:], 0, num_tokens - 1)
            if start >= 0 and n <= num_tokens:
                draft = list(self._tokens[start + n : start + n + MAX_DRAFT])
                while len(draft) < MAX_DRAFT:
                    draft.append(draft[len(draft) - (num_tokens - start - n)])
                return draft
        return []


@dataclass(frozen=True, slots=True)
class DraftValue:
    """How many tokens of a draft to verify, and what that brings: tokens a step's time more."""

    length: int
    gain: float


def value_draft(acceptance: float, num_decoding: int, limit: int, costs: StepCosts) -> DraftValue:
    """The best length up to `limit`; 0 where speculation would lose.

    All `num_decoding` sequences get their tokens beside the draft, only later: what counts is the
    tokens of all in the time of a step. A draft of k tokens, each right with probability a, brings
    its own sequence (1 - a^(k+1)) / (1 - a) (Leviathan et al. 2023, equation 1).
    """
    others = num_decoding - 1
    without = num_decoding / costs.decode(num_decoding)
    best, most = DraftValue(0, 0.0), without * MARGIN
    for length in (one for one in LENGTHS if one <= limit):
        own = (1 - acceptance ** (length + 1)) / (1 - acceptance) if acceptance < 1 else length + 1
        speed = (others + own) / costs.verify(num_decoding, length)
        if speed > most:
            best, most = DraftValue(length, speed - without), speed
    return best
