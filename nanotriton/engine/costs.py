"""What a pass costs, in units of a decode step of one sequence: learned while the engine runs.

Comes in: shapes of passes and how long they took. Goes out: estimates for the shapes that come
next. A draft token more costs 3 to 25 % of a step, depending on model, precision and machine, and
a wrong guess would make speculation lose. Knows nothing of what a pass is for.
"""

from collections import deque
from statistics import median

# Where nothing was measured yet: what a row more and a draft token more cost with 8-bit weights
# (124M parameters, 2 cores: decode of 8 sequences 2.15, verify of 4 drafts 1.34 steps).
ROW_SHARE = 0.16
DRAFT_SHARE = 0.085
# Medians of so many measurements count: neighbours on the machine make single ones useless.
WINDOW = 15
# Shares that were not measured for so many steps are what they were at first, and tried again.
FORGET_AFTER = 500


class StepCosts:
    """Linear in rows and in draft tokens, each with a share that follows the measurements."""

    def __init__(self) -> None:
        self._step_s: deque[float] = deque(maxlen=WINDOW)
        self._row_shares = deque([ROW_SHARE] * WINDOW, WINDOW)
        self._draft_shares = deque([DRAFT_SHARE] * WINDOW, WINDOW)
        self._row_share, self._draft_share = ROW_SHARE, DRAFT_SHARE
        self._num_undrafted = 0

    def decode(self, num_rows: int) -> float:
        """A step that brings a token to each of `num_rows` sequences."""
        return 1 + self._row_share * (num_rows - 1)

    def verify(self, num_drafted: int) -> float:
        """A pass that verifies a draft of one sequence."""
        return 1 + self._draft_share * num_drafted

    def note(self, num_rows: int, num_tokens: int, seconds: float) -> None:
        """Learn from a batch of `num_rows` sequences that took `num_tokens` each."""
        if num_rows == num_tokens == 1:
            self._step_s.append(seconds)
        elif num_rows > 1:
            self._row_share = self._follow(self._row_shares, seconds, num_rows - 1)
        else:
            self._draft_share = self._follow(self._draft_shares, seconds, num_tokens - 1)
        self._num_undrafted = 0 if num_tokens > 1 else self._num_undrafted + 1
        if self._num_undrafted == FORGET_AFTER:
            self._draft_shares.extend([DRAFT_SHARE] * WINDOW)
            self._draft_share = DRAFT_SHARE

    def _follow(self, shares: "deque[float]", seconds: float, num_more: int) -> float:
        """A share after a pass with `num_more` rows or drafts more than a step of one has."""
        step_s = median(self._step_s) if self._step_s else 0.0
        if step_s > 0:
            shares.append(max(0.0, (seconds / step_s - 1) / num_more))
        return median(shares)
