"""model.onnx on the CPU through ONNX Runtime: the runner of machines without a GPU.

Comes in: an exported version's folder. Goes out: `OrtRunner`. The KV cache is one array whose slot
views are bound to the graphs' past and present by address, so a step copies no cache and either
graph of a version (`runners.graphs`) may take it. Knows
nothing of requests, text or sampling; that the files are the manifest's is doctor's to check.
"""

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nanotriton import contract
from nanotriton.contract import Manifest
from nanotriton.errors import RunnerError
from nanotriton.runners.base import Batch, Candidates, Copy
from nanotriton.runners.graphs import BY_ROWS, ORT_ERRORS, Graphs, GraphUse, first_line

# A new binding costs about 225 us, a cached one nothing (measured: 12 layers, 2 cores).
MAX_BINDINGS = 128


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a binding depends on; R is `num_rows`."""

    num_sequences: int
    num_tokens: int
    num_rows: int
    first_slot: int
    full_logits: bool


@dataclass(frozen=True, slots=True)
class _Binding:
    """One shape's inputs and outputs, bound once and written in place."""

    io: ort.IOBinding
    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    seqlens_k: NDArray[np.int32]
    total_len: NDArray[np.int32]
    rows: NDArray[np.int64]
    candidates: Candidates


class OrtRunner:
    """Runs one exported version with `num_slots` KV slots on `num_threads` threads.

    Raises ManifestError or RunnerError when the folder holds no model that it can run.
    """

    def __init__(
        self,
        folder: Path,
        num_slots: int,
        num_threads: int,
        use: GraphUse = BY_ROWS,
        *,
        spinning: bool = False,
    ) -> None:
        assert num_slots > 0, num_slots
        assert num_threads > 0, num_threads
        manifest = Manifest.load(folder)
        self._graphs = Graphs(folder, manifest, num_threads, use, spinning=spinning)
        self.num_slots = num_slots
        self.context = manifest.context
        self.vocab_size = manifest.vocab_size
        self.num_candidates = manifest.num_candidates
        # M is one position longer than the context: a dead row whose slot is full writes there.
        self._cache = np.zeros(
            (
                manifest.num_layers,
                2,
                num_slots,
                manifest.num_heads,
                manifest.context + 1,
                manifest.head_dim,
            ),
            np.float32,
        )  # (L, 2, S, H, M, D)
        self.cache_bytes = self._cache.nbytes
        self._full_logits = np.empty(0, np.float32)
        self._bindings: OrderedDict[_Shape, _Binding] = OrderedDict()

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
            self._copy(one)
        binding = self._bind(
            _Shape(num_sequences, num_tokens, len(batch.rows), batch.first_slot, batch.full_logits)
        )
        binding.input_ids[:] = batch.input_ids
        np.add(batch.past_lengths[:, None], np.arange(num_tokens), out=binding.position_ids)
        np.minimum(binding.position_ids, self.context - 1, out=binding.position_ids)
        np.add(batch.past_lengths, num_tokens - 1, out=binding.seqlens_k)
        binding.total_len[0] = batch.past_lengths.max() + num_tokens
        binding.rows[:] = batch.rows
        try:
            self._graphs.pick(num_sequences, num_tokens).run_with_iobinding(binding.io)
        except ORT_ERRORS as error:
            raise RunnerError(f"ONNX Runtime failed: {first_line(error)}") from None
        return binding.candidates

    def _copy(self, one: Copy) -> None:
        """Copy a beginning of keys and values, (L, 2, H, T, D), from slot to slot."""
        assert one.source != one.target, one
        assert 0 < one.length <= self.context, one
        self._cache[:, :, one.target, :, : one.length] = self._cache[
            :, :, one.source, :, : one.length
        ]

    def _bind(self, shape: _Shape) -> _Binding:
        """The binding of a shape: the cached one, or a new one in the place of the oldest."""
        if binding := self._bindings.get(shape):
            self._bindings.move_to_end(shape)
            return binding
        binding = self._new_binding(shape)
        self._bindings[shape] = binding
        if len(self._bindings) > MAX_BINDINGS:
            self._bindings.popitem(last=False)
        return binding

    def _new_binding(self, shape: _Shape) -> _Binding:
        tokens = (shape.num_sequences, shape.num_tokens)  # (B, T)
        candidates = (shape.num_rows, self.num_candidates)  # (R, K)
        binding = _Binding(
            io=self._graphs.pick(shape.num_sequences, shape.num_tokens).io_binding(),
            input_ids=np.empty(tokens, np.int64),
            position_ids=np.empty(tokens, np.int64),
            seqlens_k=np.empty(shape.num_sequences, np.int32),
            total_len=np.empty(1, np.int32),
            rows=np.empty(shape.num_rows, np.int64),
            candidates=Candidates(
                np.empty(candidates, np.float32),
                np.empty(candidates, np.int64),
                np.empty(shape.num_rows, np.float32),
                self._full_view(shape.num_rows) if shape.full_logits else None,
                self._graphs.name(shape.num_sequences, shape.num_tokens),
            ),
        )
        _bind_input(binding.io, contract.GRAPH_INPUT_IDS, binding.input_ids)
        _bind_input(binding.io, contract.GRAPH_POSITION_IDS, binding.position_ids)
        _bind_input(binding.io, contract.GRAPH_SEQLENS_K, binding.seqlens_k)
        _bind_input(binding.io, contract.GRAPH_TOTAL_LEN, binding.total_len)
        _bind_input(binding.io, contract.GRAPH_ROWS, binding.rows)
        _bind_output(binding.io, contract.GRAPH_TOP_LOGITS, binding.candidates.logits)
        _bind_output(binding.io, contract.GRAPH_TOP_TOKENS, binding.candidates.tokens)
        _bind_output(binding.io, contract.GRAPH_LSE, binding.candidates.lse)
        if binding.candidates.full is not None:
            _bind_output(binding.io, contract.GRAPH_LOGITS, binding.candidates.full)
        slots = slice(shape.first_slot, shape.first_slot + shape.num_sequences)
        for layer, (keys, values) in enumerate(self._cache):
            for kind, cache in (("k", keys[slots]), ("v", values[slots])):  # (B, H, M, D)
                _bind_input(binding.io, contract.past_name(layer, kind), cache)
                _bind_output(binding.io, contract.present_name(layer, kind), cache)
        return binding

    def _full_view(self, num_rows: int) -> NDArray[np.float32]:
        """(R, V) of the one buffer of full logits, which grows to the largest R seen."""
        size = num_rows * self.vocab_size
        if self._full_logits.size < size:
            self._bindings.clear()  # they point into the smaller buffer
            self._full_logits = np.empty(size, np.float32)
        return self._full_logits[:size].reshape(num_rows, self.vocab_size)


def slots_within(cache_bytes: int, manifest: Manifest) -> int:
    """KV slots that fit into so many bytes; raises RunnerError when not even one does."""
    heads = manifest.num_layers * 2 * manifest.num_heads
    slot_bytes = heads * (manifest.context + 1) * manifest.head_dim * np.dtype(np.float32).itemsize
    if cache_bytes < slot_bytes:
        raise RunnerError(
            f"kv_cache_bytes is {cache_bytes}, one KV slot of this model takes {slot_bytes}: "
            "give it at least that much"
        )
    return cache_bytes // slot_bytes


def _bind_input(io: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
    assert array.flags.c_contiguous, name
    io.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _bind_output(io: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
    assert array.flags.c_contiguous, name
    io.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
