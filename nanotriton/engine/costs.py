"""What a step costs, in units of a decode step of one sequence: learned while the engine runs.

Comes in: shapes of steps and how long they took. Goes out: estimates for the shapes that come
next. A draft costs 15 to 300 % of a step, depending on model, precision and machine, and a wrong
guess would make speculation lose, or a prompt's chunk hold streams up. Knows nothing of what is in
a step.
"""

from collections import deque
from statistics import median

# Where nothing was measured yet: what a row, a draft, each of its tokens and a prompt's token more
# cost (124M parameters, 2 cores: decode of 8 sequences 2.2, drafts of 1 and 8 tokens 0.26 and 1.09
# steps; 1 core: a chunk of 128 beside 1 row 9.3 steps).
ROW_SHARE = 0.16
DRAFT_COST = 0.15
DRAFT_SHARE = 0.115
PROMPT_SHARE = 0.065
# Medians of so many measurements count: neighbours on the machine make single ones useless. What is
# assumed at first weighs as much as so many.
WINDOW = 15
ASSUMED = 5
# A draft's cost that was not measured for so many steps is what it was at first, and tried again.
FORGET_AFTER = 500


class StepCosts:
    """Linear in rows and prompt tokens, and for each length of a draft what that costs more.

    A draft's tokens go another way through the graph than rows do, which costs even for one token
    what several rows cost; so a share for each of them would be wrong for all lengths but one.
    """

    def __init__(self) -> None:
        self._single_s: deque[float] = deque(maxlen=WINDOW)  # steps of one row
        self._recent_s: deque[float] = deque(maxlen=WINDOW)  # all decode steps, as if of one row
        self._rows = _Share(ROW_SHARE)
        self._drafts: dict[int, _Share] = {}  # by length, those that were measured
        self._prompts = _Share(PROMPT_SHARE)
        self._num_steps = 0
        self._lengths: set[int] = set()  # measured since some were forgotten

    def decode(self, num_rows: int) -> float:
        """A step that brings a token to each of `num_rows` sequences."""
        return 1 + self._rows.value * (num_rows - 1)

    def verify(self, num_rows: int, num_drafted: int) -> float:
        """The same step, one of whose sequences has a draft."""
        draft = self._drafts.get(num_drafted)
        more = draft.value if draft else _first_cost(num_drafted)
        return self.decode(num_rows) + more

    def prompt_tokens(self, num_rows: int, stretch: float) -> int:
        """How many tokens of a prompt a step of `num_rows` takes along to last `stretch` times."""
        room = (stretch - 1) * self.decode(num_rows)
        return int(room / max(self._prompts.value, 1e-6))

    def note_decode(self, num_rows: int, seconds: float) -> None:
        """Learn from a step of `num_rows` rows."""
        if num_rows == 1:
            self._single_s.append(seconds)
        elif self._single_s:
            self._rows.follow(seconds, median(self._single_s), 1, num_rows - 1)
        self._recent_s.append(seconds / self.decode(num_rows))
        self._forget()

    def note_verify(self, num_rows: int, num_drafted: int, seconds: float) -> None:
        """Learn from a step of `num_rows` rows, one of which had a draft."""
        if num_drafted not in self._drafts:
            self._drafts[num_drafted] = _Share(_first_cost(num_drafted))
        self._follow(self._drafts[num_drafted], num_rows, 1, seconds)
        self._lengths.add(num_drafted)
        self._forget()

    def note_prompt(self, num_rows: int, num_tokens: int, seconds: float) -> None:
        """Learn from a step of `num_rows` rows that took tokens of a prompt along."""
        self._follow(self._prompts, num_rows, num_tokens, seconds)

    def _follow(self, share: "_Share", num_rows: int, num_more: int, seconds: float) -> None:
        if self._recent_s:
            share.follow(seconds, median(self._recent_s), self.decode(num_rows), num_more)

    def _forget(self) -> None:
        """Every so often, what drafts cost that were not verified since the last time."""
        self._num_steps += 1
        if self._num_steps % FORGET_AFTER == 0:
            self._drafts = {one: self._drafts[one] for one in self._lengths}
            self._lengths.clear()


class _Share:
    """What one more of something costs, as a share of a step of one row."""

    def __init__(self, first: float) -> None:
        self.value = first
        self._measured = deque([first] * ASSUMED, WINDOW)

    def follow(self, seconds: float, step_s: float, without: float, num_more: int) -> None:
        """Learn from a step with `num_more` of it that would cost `without` without them."""
        if step_s > 0:
            self._measured.append(max(0.0, (seconds / step_s - without) / num_more))
        self.value = median(self._measured)


def _first_cost(num_drafted: int) -> float:
    """Of a draft, as long as none of that length was measured."""
    return DRAFT_COST + DRAFT_SHARE * num_drafted
