"""Named arrays in, one block of them on the device and its twin in pinned host memory out.

One copy moves all of a step's inputs, and one all of its small outputs. Knows nothing of what the
arrays mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nanotriton.runners.cuda import Device

ALIGNMENT_BYTES = 256  # of every address that TensorRT is told (NvInferRuntime.h, setTensorAddress)


@dataclass(frozen=True, slots=True)
class Entry:
    """The largest shape of one array."""

    shape: tuple[int, ...]
    dtype: DTypeLike

    @property
    def num_bytes(self) -> int:
        """What it takes, up to where the next one may begin."""
        size = prod(self.shape) * np.dtype(self.dtype).itemsize
        return size + -size % ALIGNMENT_BYTES


class Mirror:
    """A block on the device and its pinned twin; `host` and `addresses` name its arrays."""

    def __init__(self, device: Device, entries: Mapping[str, Entry]) -> None:
        self._device = device
        total = sum(entry.num_bytes for entry in entries.values())
        self._host = device.allocate_pinned((total,), np.uint8)
        self._address = device.allocate(total)
        self.host: dict[str, NDArray[Any]] = {}
        self.addresses: dict[str, int] = {}
        start = 0
        for name, entry in entries.items():
            size = prod(entry.shape) * np.dtype(entry.dtype).itemsize
            part = self._host[start : start + size]
            self.host[name] = part.view(entry.dtype).reshape(entry.shape)
            self.addresses[name] = self._address + start
            start += entry.num_bytes

    def push(self) -> None:
        """Copy the twin's arrays to the device."""
        self._device.to_device(self._address, self._host)

    def pull(self) -> None:
        """Copy the device's arrays to the twin; they are there after `Device.synchronize`."""
        self._device.to_host(self._host, self._address)
