"""The KV cache on the device, [L, 2, S, H, M, D]: where each slot lies, and copies between slots.

Knows nothing of what the slots hold.
"""

from dataclasses import dataclass
from math import prod

from nanotriton.errors import RunnerError
from nanotriton.runners.base import Copy
from nanotriton.runners.cuda import Device
from nanotriton.runners.mirror import ALIGNMENT_BYTES


@dataclass(frozen=True, slots=True)
class KVLayout:
    """Sizes of a cache: L layers, S slots of H heads, M positions and D dimensions.

    M is larger than the context: a dead row whose slot is full writes behind it.
    """

    num_layers: int
    num_slots: int
    num_heads: int
    num_positions: int
    head_dim: int
    item_bytes: int
    context: int


class KVMemory:
    """The cache of one layout, allocated once; raises RunnerError when slots can't be addressed."""

    def __init__(self, device: Device, layout: KVLayout) -> None:
        self._device = device
        self._layout = layout
        self.num_layers = layout.num_layers
        self.context = layout.context
        self.slot_shape = (layout.num_heads, layout.num_positions, layout.head_dim)  # (H, M, D)
        self._slot_bytes = prod(self.slot_shape) * layout.item_bytes
        if self._slot_bytes % ALIGNMENT_BYTES:
            raise RunnerError(
                f"a KV slot of one layer takes {self._slot_bytes} bytes and TensorRT takes "
                f"addresses at multiples of {ALIGNMENT_BYTES} alone: build the plan again, whose "
                "number of positions is rounded up for that"
            )
        self.num_bytes = 2 * layout.num_layers * layout.num_slots * self._slot_bytes
        self._address = device.allocate(self.num_bytes)

    def address(self, layer: int, index: int, slot: int) -> int:
        """Where a slot's keys (`index` 0) or values (1) of a layer begin."""
        place = (2 * layer + index) * self._layout.num_slots + slot
        return self._address + place * self._slot_bytes

    def copy(self, one: Copy) -> None:
        """Put a copy of a slot's beginning on the stream: T positions of every head."""
        assert one.source != one.target, one
        assert 0 < one.length <= self.context, one
        position_bytes = self._layout.head_dim * self._layout.item_bytes
        for layer in range(self.num_layers):
            for index in (0, 1):
                self._device.copy_rows(
                    self.address(layer, index, one.target),
                    self.address(layer, index, one.source),
                    row_bytes=one.length * position_bytes,
                    pitch_bytes=self._layout.num_positions * position_bytes,
                    num_rows=self._layout.num_heads,
                )
