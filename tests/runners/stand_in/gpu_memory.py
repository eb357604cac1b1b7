"""Memory of a GPU that isn't there, and its streams: what both stand-ins, CUDA's and TensorRT's,
stand on.

Device memory is host memory at real addresses, filled with NaN before anybody writes it. What is
put on a stream happens when the stream is synchronized and not before, in its order; while the
stream is captured it goes into a graph instead. A wrong address fails as on a GPU: when the work
runs, and from then on every call fails.
"""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
NEVER_WRITTEN = 0xFF  # as float16 and float32 it is NaN, as an integer -1

Work = Callable[[], None]


class IllegalAddress(Exception):
    """Work touched memory that nobody allocated, or of the wrong kind."""


@dataclass
class Allocation:
    """One block; `keep` holds the bytes alive."""

    address: int
    size: int
    kind: str  # "device" or "pinned"
    keep: NDArray[np.uint8]


@dataclass
class Stream:
    """What waits to be done; `captured` collects it while a graph is recorded."""

    pending: list[Work] = field(default_factory=list)
    captured: list[Work] | None = None
    is_capture_broken: bool = False

    def put(self, work: Work) -> None:
        """Add work behind the rest."""
        (self.pending if self.captured is None else self.captured).append(work)


class Gpu:
    """All memory and streams of the one device."""

    def __init__(self) -> None:
        self.allocations: dict[int, Allocation] = {}
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.is_lost = False  # an asynchronous error happened: nothing works any more
        self._handles = iter(range(0x1000, 1 << 62))

    def new_handle(self) -> int:
        """A number that nothing else has."""
        return next(self._handles)

    def allocate(self, size: int, kind: str) -> int:
        """A block at a multiple of 256, full of NaN."""
        keep = np.full(size + ALIGNMENT, NEVER_WRITTEN, np.uint8)
        address = keep.ctypes.data + -keep.ctypes.data % ALIGNMENT
        self.allocations[address] = Allocation(address, size, kind, keep)
        return address

    def free(self, address: int, kind: str) -> bool:
        """Give a block back; False when there is none of that kind."""
        block = self.allocations.get(address)
        if block is None or block.kind != kind:
            return False
        del self.allocations[address]
        return True

    def bytes_at(self, address: int, size: int, kind: str) -> NDArray[np.uint8]:
        """A view of memory; raises IllegalAddress unless one block of that kind holds all of it."""
        for block in self.allocations.values():
            start = address - block.address
            if block.kind == kind and 0 <= start <= start + size <= block.size:
                return np.frombuffer((ctypes.c_ubyte * size).from_address(address), np.uint8)
        raise IllegalAddress(f"{size} bytes at {address:#x} are no {kind} memory")

    def finish(self, stream: Stream) -> bool:
        """Do what waits; False when it went wrong, now or earlier."""
        while stream.pending and not self.is_lost:
            try:
                stream.pending.pop(0)()
            except IllegalAddress:
                self.is_lost = True
        return not self.is_lost


GPU = Gpu()
