"""model.plan on an NVIDIA GPU through TensorRT: the runner of machines that have one.

Comes in: an exported version's folder. Goes out: `TrtRunner`. Keys and values never leave the
device; a decode step is one launch of a recorded CUDA graph, a prompt chunk an ordinary one.
Knows nothing of requests, text or sampling; that the files are the manifest's is doctor's to check.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanotriton import contract
from nanotriton.contract import Manifest
from nanotriton.errors import RunnerError
from nanotriton.runners.base import Batch, Candidates, fit_slots
from nanotriton.runners.cuda import Device
from nanotriton.runners.kv_memory import KVLayout, KVMemory
from nanotriton.runners.phase import Phase, Tokens
from nanotriton.runners.plan import DECODE, PREFILL, Plan


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one phase does for a batch.

    rows    which of the piece's tokens reach the head
    wanted  which of those rows the batch asks for
    places  where these stand among the batch's rows
    """

    phase: Phase
    tokens: Tokens
    rows: NDArray[np.int64]
    wanted: NDArray[np.intp]
    places: NDArray[np.intp]


class TrtRunner:
    """Runs one exported plan with `max_slots` KV slots, or fewer.

    No more than the plan was built for, nor than fit into `cache_bytes`, if that is given. Without
    `records_decode` every step is launched kernel by kernel, as only a benchmark wants it. Raises
    ManifestError or RunnerError when the folder holds no plan that this machine can run.
    """

    def __init__(
        self,
        folder: Path,
        max_slots: int,
        cache_bytes: int | None = None,
        records_decode: bool = True,
    ) -> None:
        assert max_slots > 0, max_slots
        manifest = Manifest.load(folder)
        if manifest.runner != "trt" or manifest.plan is None:
            raise RunnerError(
                f"{folder} was exported for the runner {manifest.runner!r}, this one is 'trt': "
                "serve it with its own runner, or build a plan with `python -m export plan`"
            )
        self._device = Device()
        self.gpu = self._device.name
        plan = Plan(folder / contract.PLAN_FILE, manifest.plan, self._device)
        layout = _layout(plan, manifest)
        max_batch = plan.limits(contract.GRAPH_INPUT_IDS, DECODE)[0]
        self.num_slots = min(max_slots, max_batch)
        if cache_bytes is not None:
            self.num_slots = min(self.num_slots, fit_slots(cache_bytes, layout.slot_bytes))
        self.context = manifest.context
        self.vocab_size = manifest.vocab_size
        self.num_candidates = manifest.num_candidates
        self._memory = KVMemory(self._device, layout, self.num_slots)
        self.cache_bytes = self._memory.num_bytes
        self._prefill = Phase(self._device, plan, PREFILL, self._memory, False)
        self._decode = Phase(self._device, plan, DECODE, self._memory, records_decode)
        self._device.synchronize()

    def run(self, batch: Batch) -> Candidates:
        """Make the copies, append the tokens to their slots, return the wanted rows' candidates."""
        num_sequences, num_tokens = batch.input_ids.shape
        assert num_tokens == 1 or num_sequences == 1, batch.input_ids.shape
        assert 0 <= batch.first_slot <= self.num_slots - num_sequences, batch.first_slot
        assert batch.past_lengths.shape == (num_sequences,), batch.past_lengths.shape
        assert batch.past_lengths.min() >= 0, batch.past_lengths
        assert batch.past_lengths.max() + num_tokens <= self.context + (num_tokens == 1)
        assert batch.input_ids.min() >= 0, batch.input_ids.min()
        assert batch.input_ids.max() < self.vocab_size, batch.input_ids.max()
        assert len(batch.rows) > 0

        for one in batch.copies:
            self._memory.copy(one)
        found, places = [], []
        for pieces in self._turns(batch):
            for piece in pieces:
                piece.phase.start(piece.tokens, piece.rows, batch.full_logits)
            self._device.synchronize()
            for piece in pieces:
                found.append(piece.phase.candidates(piece.wanted, batch.full_logits))
                places.append(piece.places)
        return found[0] if len(found) == 1 else _joined(found, np.argsort(np.concatenate(places)))

    def _turns(self, batch: Batch) -> list[list[_Piece]]:
        """What is launched before each wait."""
        if batch.input_ids.shape[1] == 1:
            return [[self._decode_piece(batch)]]
        return [[piece] for piece in self._chunk_pieces(batch)]

    def _decode_piece(self, batch: Batch) -> _Piece:
        """All rows reach the head, so that a recorded step doesn't depend on which are dead."""
        every = np.arange(len(batch.input_ids))
        tokens = Tokens(batch.first_slot, batch.input_ids, batch.past_lengths)
        return _Piece(self._decode, tokens, every, batch.rows, np.arange(len(batch.rows)))

    def _chunk_pieces(self, batch: Batch) -> Iterator[_Piece]:
        """Pieces of at most the plan's chunk, which is one piece as the engine has them."""
        most = self._prefill.max_tokens
        for start in range(0, batch.input_ids.shape[1], most):
            ids = batch.input_ids[:, start : start + most]
            places = np.flatnonzero(batch.rows // most == start // most)
            rows = batch.rows[places] - start if len(places) else np.zeros(1, np.int64)
            tokens = Tokens(batch.first_slot, ids, batch.past_lengths + np.int32(start))
            yield _Piece(self._prefill, tokens, rows, np.arange(len(places)), places)

    def close(self) -> None:
        """Give the device's memory back."""
        self._device.close()


def _joined(parts: list[Candidates], order: NDArray[np.intp]) -> Candidates:
    """The rows of several steps, in the order that they were asked for."""
    full = [part.full for part in parts if part.full is not None]
    return Candidates(
        np.concatenate([part.logits for part in parts])[order],
        np.concatenate([part.tokens for part in parts])[order],
        np.concatenate([part.lse for part in parts])[order],
        np.concatenate(full)[order] if full else None,
    )


def _layout(plan: Plan, manifest: Manifest) -> KVLayout:
    """The cache that a plan was built for; raises RunnerError when it isn't the manifest's."""
    name = contract.past_name(manifest.num_layers - 1, "v")
    _, num_heads, num_positions, head_dim = plan.shape(name)
    found = (num_heads, head_dim, plan.dtype(name).name, plan.shape(contract.GRAPH_LOGITS)[1])
    expected = (manifest.num_heads, manifest.head_dim, manifest.kv_dtype, manifest.vocab_size)
    if found != expected or num_positions <= manifest.context:
        raise RunnerError(
            f"the plan has heads, head dimension, KV type and vocabulary {found} and "
            f"{num_positions} positions, its manifest {expected} and a context of "
            f"{manifest.context}: build the plan again"
        )
    return KVLayout(
        num_layers=manifest.num_layers,
        num_heads=num_heads,
        num_positions=num_positions,
        head_dim=head_dim,
        item_bytes=plan.dtype(name).itemsize,
        context=manifest.context,
    )
