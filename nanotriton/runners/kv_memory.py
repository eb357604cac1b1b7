"""The KV cache on the device, [L, 2, S, H, M, D]: where each slot lies, and copies between slots.

Knows nothing of what the slots hold.
"""

from dataclasses import dataclass

from nanotriton.errors import RunnerError
from nanotriton.runners.base import Copy
from nanotriton.runners.cuda import Device
from nanotriton.runners.mirror import ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True)
class KVLayout:
    """Sizes of a slot: L layers of keys and values, H heads, M positions, D dimensions.

    M is larger than the context: a dead row whose slot is full writes behind it.
    """

    num_layers: int
    num_heads: int
    num_positions: int
    head_dim: int
    item_bytes: int
    context: int

    @property
    def part_bytes(self) -> int:
        """What the keys, or values, of one layer take."""
        return self.num_heads * self.num_positions * self.head_dim * self.item_bytes

    @property
    def slot_bytes(self) -> int:
        """What a whole slot takes."""
        return 2 * self.num_layers * self.part_bytes


class KVMemory:
    """The cache of S slots, allocated once; raises RunnerError when slots can't be addressed."""

    def __init__(self, device: Device, layout: KVLayout, num_slots: int) -> None:
        if layout.part_bytes % ALIGNMENT_BYTES:
            raise RunnerError(
                f"the keys of a slot take {layout.part_bytes} bytes, and TensorRT takes addresses "
                f"at multiples of {ALIGNMENT_BYTES} alone: build the plan again, whose number of "
                "positions is rounded up for that"
            )
        self.layout = layout
        self.num_bytes = num_slots * layout.slot_bytes
        self._num_slots = num_slots
        self._device = device
        self._address = device.allocate(self.num_bytes)

    def address(self, layer: int, index: int, slot: int) -> int:
        """Where a slot's keys (`index` 0) or values (1) of a layer begin."""
        place = (2 * layer + index) * self._num_slots + slot
        return self._address + place * self.layout.part_bytes

    def copy(self, one: Copy) -> None:
        """Put a copy of a slot's beginning on the stream: T positions of every head."""
        position_bytes = self.layout.head_dim * self.layout.item_bytes
        for layer in range(self.layout.num_layers):
            for index in (0, 1):
                self._device.copy_rows(
                    self.address(layer, index, one.target),
                    self.address(layer, index, one.source),
                    row_bytes=one.length * position_bytes,
                    pitch_bytes=self.layout.num_positions * position_bytes,
                    num_rows=self.layout.num_heads,
                )
