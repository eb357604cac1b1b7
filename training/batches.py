"""Token ids of one split in; the blocks of any step out.

The order follows from (seed, step) alone: nothing needs saving, and every process of a run computes
its own part. Documents are shuffled anew each epoch, laid end to end with their end-of-text tokens,
and cut into blocks that are shuffled again; so every token is seen once an epoch (up to one block's
length is left out, at a random place). Attention is causal and may look across an end-of-text,
as nanoGPT's and GPT-2's does. Knows nothing of the model or of devices.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from training.infill import Ids, Infill

SHUFFLE, INFILL = 0, 1  # independent random streams of one seed


@dataclass(frozen=True, slots=True)
class Epoch:
    """One order of the documents: where each starts in the files and in the epoch's own stream."""

    sources: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]  # one more than documents: the last is the number of tokens
    blocks: npt.NDArray[np.int64]  # the order of the blocks
    shift: int  # where the first block starts, so that the cuts differ between epochs


@dataclass(slots=True)
class BlockStream:
    """Endless blocks of ``block_size`` tokens and the one after; ``tokens`` (N,), N > block_size.

    ``infill`` rearranges some documents, None leaves all as they are.
    """

    tokens: npt.NDArray[np.uint16]
    block_size: int
    end_of_text: int
    seed: int
    infill: Infill | None = None
    _bounds: npt.NDArray[np.int64] = field(init=False, repr=False)
    _epochs: dict[int, Epoch] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        ends = np.flatnonzero(self.tokens == self.end_of_text) + 1
        self._bounds = np.unique(np.concatenate(([0], ends, [len(self.tokens)])))

    @property
    def blocks_per_epoch(self) -> int:
        return len(self.tokens) // self.block_size

    def rows(self, first: int, count: int) -> Ids:
        """Blocks ``first`` to ``first + count`` of the run, (B, block_size + 1) int64."""
        return np.stack([self._row(index) for index in range(first, first + count)])

    def _row(self, index: int) -> Ids:
        number, within = divmod(index, self.blocks_per_epoch)
        block = self._read(self._epoch(number), within)
        if self.infill is None:
            return block
        return self.infill.apply(block, np.random.default_rng((self.seed, INFILL, index)))

    def _epoch(self, number: int) -> Epoch:
        if number not in self._epochs:
            self._epochs = {n: e for n, e in self._epochs.items() if n == number - 1}
            self._epochs[number] = self._shuffle(number)
        return self._epochs[number]

    def _shuffle(self, number: int) -> Epoch:
        generator = np.random.default_rng((self.seed, SHUFFLE, number))
        order = generator.permutation(len(self._bounds) - 1)
        starts = np.concatenate(([0], np.cumsum(np.diff(self._bounds)[order])))
        blocks = generator.permutation(self.blocks_per_epoch)
        shift = int(generator.integers(len(self.tokens)))
        return Epoch(self._bounds[order], starts, blocks, shift)

    def _read(self, epoch: Epoch, within: int) -> Ids:
        """One block of the epoch's stream, which is a ring: its end runs on into its start."""
        position = (epoch.shift + int(epoch.blocks[within]) * self.block_size) % len(self.tokens)
        document = int(np.searchsorted(epoch.starts, position, side="right")) - 1
        parts, missing = [], self.block_size + 1
        while missing:
            inside = position - int(epoch.starts[document])
            left = int(epoch.starts[document + 1]) - position
            start = int(epoch.sources[document]) + inside
            part = self.tokens[start : start + min(left, missing)]
            parts.append(part)
            missing -= len(part)
            document = (document + 1) % len(epoch.sources)
            position = int(epoch.starts[document])
        block: Ids = np.concatenate(parts).astype(np.int64)
        return block
