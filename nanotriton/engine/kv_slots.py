"""Which KV slot belongs to whom, and how many tokens each holds. Knows nothing of the memory."""

import numpy as np
from numpy.typing import NDArray


class KVSlots:
    """S slots; unless told which, it gives the lowest free one, so that used ones lie together.

    `lengths` (S,) int32 is how many tokens each slot holds. A free slot may hold those of a
    sequence that has ended, until somebody else gets it.
    """

    def __init__(self, num_slots: int) -> None:
        self.lengths: NDArray[np.int32] = np.zeros(num_slots, np.int32)
        self.free: set[int] = set(range(num_slots))

    @property
    def num_free(self) -> int:
        """Slots that `take` can give."""
        return len(self.free)

    def take(self, slot: int | None = None) -> int:
        """Give a free slot, the lowest if none is named, with what it holds."""
        slot = min(self.free) if slot is None else slot
        self.free.remove(slot)
        return slot

    def release(self, slot: int, num_kept: int = 0) -> None:
        """Give a slot back with its first `num_kept` tokens; it may be taken in the next step."""
        assert slot not in self.free, f"slot {slot} is free already"
        self.lengths[slot] = num_kept
        self.free.add(slot)
