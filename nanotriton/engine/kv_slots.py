"""Which KV slot belongs to whom, and how many tokens each holds. Knows nothing of the memory."""

import heapq

import numpy as np
from numpy.typing import NDArray


class KVSlots:
    """S slots; the lowest free one is given first, so that the used ones lie close together.

    `lengths` (S,) int32 is how many tokens each slot holds; 0 when it is free.
    """

    def __init__(self, num_slots: int) -> None:
        self.lengths: NDArray[np.int32] = np.zeros(num_slots, np.int32)
        self._free = list(range(num_slots))  # a heap

    @property
    def num_free(self) -> int:
        """Slots that `take` can give."""
        return len(self._free)

    def take(self) -> int:
        """Give the lowest free slot, empty."""
        return heapq.heappop(self._free)

    def release(self, slot: int) -> None:
        """Give a slot back; the next request may have it in the next step."""
        assert slot not in self._free, f"slot {slot} is free already"
        self.lengths[slot] = 0
        heapq.heappush(self._free, slot)
