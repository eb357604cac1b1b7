"""Who is served first: priority, then deadline, then arrival; and nobody waits for ever.

Comes in: sequences, and the time. Goes out: the one whose turn it is. Pure.
"""

from collections.abc import Iterator

from nanotriton.engine.sequence import Sequence

# So long a wait is worth one level of priority. A request is only ever overtaken by requests that
# came less than (levels between them + 1) times this after it: later ones find it grown above them.
AGEING_S = 5.0


def urgency(sequence: Sequence, now_s: float) -> tuple[int, float, float]:
    """A key that sorts the most urgent first, those that came together in the order they came."""
    level = sequence.request.settings.priority + int((now_s - sequence.arrived_s) / AGEING_S)
    return -level, sequence.deadline_s, sequence.arrived_s


class WaitingLine:
    """Sequences without a slot.

    A request waits as long as its first sequence does; the others only wait for more slots.
    """

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []  # in the order they came

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    @property
    def num_requests(self) -> int:
        """Requests that wait."""
        return sum(one.index == 0 for one in self._sequences)

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait."""
        self._sequences.append(sequence)

    def discard(self, sequence: Sequence) -> None:
        """Take a sequence out of the line, if it stands there."""
        self._sequences = [one for one in self._sequences if one is not sequence]

    def pop(self, now_s: float) -> Sequence:
        """Take the most urgent one out."""
        sequence = min(self._sequences, key=lambda one: urgency(one, now_s))
        self._sequences.remove(sequence)
        return sequence
