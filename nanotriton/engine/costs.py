"""What a pass costs, in units of a decode step of one sequence: learned while the engine runs.

Comes in: shapes of passes and how long they took. Goes out: estimates for the shapes that come
next. Machines, precisions and models differ by a factor of five here (ENGINE notes in
docs/DESIGN.md), and a wrong guess would make speculation lose. Knows nothing of what a pass is for.
"""

# Where nothing was measured yet: what a row more and a draft token more cost with 8-bit weights
# (124M parameters, 2 cores: decode of 8 sequences 2.15, verify of 4 drafts 1.34 steps).
ROW_SHARE = 0.16
DRAFT_SHARE = 0.085
LEAST_SHARE, MOST_SHARE = 0.005, 1.0
RATE = 0.05
# A share that is not measured for long returns to its first value, and so is tried again.
RETURN_RATE = 0.002


class StepCosts:
    """Linear in rows and in draft tokens, each with a share that follows the measurements."""

    def __init__(self) -> None:
        self._step_s = 0.0
        self._row_share = ROW_SHARE
        self._draft_share = DRAFT_SHARE

    def decode(self, num_rows: int) -> float:
        """A step that brings a token to each of `num_rows` sequences."""
        return 1 + self._row_share * (num_rows - 1)

    def verify(self, num_drafted: int) -> float:
        """A pass that verifies a draft of one sequence."""
        return 1 + self._draft_share * num_drafted

    def note(self, num_rows: int, num_tokens: int, seconds: float) -> None:
        """Learn from a batch of `num_rows` sequences that took `num_tokens` each."""
        if num_rows > 1:
            self._row_share = self._follow(self._row_share, seconds, num_rows - 1)
        elif num_tokens > 1:
            self._draft_share = self._follow(self._draft_share, seconds, num_tokens - 1)
        else:
            self._step_s += (seconds - self._step_s) * (RATE if self._step_s else 1)
            self._draft_share += (DRAFT_SHARE - self._draft_share) * RETURN_RATE

    def _follow(self, share: float, seconds: float, num_more: int) -> float:
        """A share after a pass with `num_more` rows or drafts more than a step of one."""
        if not self._step_s:
            return share
        seen = (seconds / self._step_s - 1) / num_more
        return share + (min(max(seen, LEAST_SHARE), MOST_SHARE) - share) * RATE
