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
from nanotriton.errors import RunnerError
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch, Candidates, Decode, check_batch, fit_slots
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

    has_native_attention = False

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
        self.gpu = self._device.gpu.name
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
        check_batch(batch, self)
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
        """What is launched before each wait: as a rule, all of it."""
        turns = [[piece] for piece in self._chunk_pieces(batch)] or [[]]
        if batch.decode:
            turns[-1].append(self._decode_piece(batch.decode, batch))
        return turns

    def _chunk_pieces(self, batch: Batch) -> Iterator[_Piece]:
        """Pieces of at most the plan's chunk, which is one piece as the engine has them."""
        most, chunk = self._prefill.max_tokens, batch.chunk
        for start in range(0, batch.num_chunked, most):
            assert chunk
            ids = chunk.input_ids[None, start : start + most]  # (1, T)
            lies_here = (start <= batch.rows) & (batch.rows < start + ids.size)
            places = np.flatnonzero(lies_here)
            rows = batch.rows[places] - start if len(places) else np.zeros(1, np.int64)
            tokens = Tokens(chunk.slot, ids, np.array([chunk.past_length + start], np.int32))
            yield _Piece(self._prefill, tokens, rows, np.arange(len(places)), places)

    def _decode_piece(self, decode: Decode, batch: Batch) -> _Piece:
        """All rows reach the head, so that a recorded step doesn't depend on which are dead."""
        tokens = Tokens(decode.first_slot, decode.input_ids[:, None], decode.past_lengths)
        places = np.flatnonzero(batch.rows >= batch.num_chunked)
        wanted = batch.rows[places] - batch.num_chunked
        return _Piece(self._decode, tokens, np.arange(batch.num_decoded), wanted, places)

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
