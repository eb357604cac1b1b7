"""A batch in, its graph's inputs and outputs bound to memory, and filled, out.

A part that the batch lacks, chunk or decode rows, attends one token over a cache of one position,
and nobody reads the result: ONNX Runtime's attention takes no empty batch, and so one graph serves
every call (GPT-2 124M, decode of 1 to 32 rows and chunks: 0.98 to 1.02 of the time of a graph
without that part). Knows nothing of copies, nor of who gets a slot.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from nanotriton import contract
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch, Candidates
from nanotriton.runners.graphs import Graphs

# A new binding of 12 layers costs about 0.5 ms, a cached one nothing.
MAX_BINDINGS = 128

Cache = NDArray[np.generic]  # (L, 2, S, H, M, D)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a binding depends on: T, B and R, and the slots, 0 for a part that is missing."""

    num_chunked: int
    num_decoded: int
    num_rows: int
    chunk_slot: int
    first_slot: int
    full_logits: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """What attention reads of the chunk, or of the decode rows."""

    attended: NDArray[np.int64]  # (1, T) or (B, 1)
    seqlens_k: NDArray[np.int32]  # (1,) or (B,)
    total_len: NDArray[np.int32]  # (1,)


@dataclass(frozen=True, slots=True)
class Binding:
    """One shape's inputs and outputs, bound once and written in place."""

    session: ort.InferenceSession
    io: ort.IOBinding
    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    rows: NDArray[np.int64]
    attention_rows: NDArray[np.int64]
    chunk: _Part
    decode: _Part
    candidates: Candidates

    def fill(self, batch: Batch, context: int) -> None:
        """Write a batch of this shape."""
        size = batch.num_chunked
        self.rows[:] = batch.rows
        if chunk := batch.chunk:
            self.input_ids[:size] = chunk.input_ids
            self.position_ids[:size] = np.arange(chunk.past_length, chunk.length)
            self.chunk.seqlens_k[0] = chunk.length - 1
            self.chunk.total_len[0] = chunk.length
        if decode := batch.decode:
            lengths = decode.past_lengths.tolist()
            self.input_ids[size:] = decode.input_ids
            # A dead row of a full slot stands behind the last position that there is.
            self.position_ids[size:] = [min(length, context - 1) for length in lengths]
            self.decode.seqlens_k[:] = lengths
            self.decode.total_len[0] = max(lengths) + 1


class Bindings:
    """Bindings of one KV cache, the latest MAX_BINDINGS of them kept."""

    def __init__(self, graphs: Graphs, cache: Cache, manifest: Manifest) -> None:
        self._graphs = graphs
        self._cache = cache
        self._vocab_size = manifest.vocab_size
        self._num_candidates = manifest.num_candidates
        num_layers, _, _, num_heads, _, head_dim = cache.shape
        spare = np.zeros((1, 2, 1, num_heads, 1, head_dim), cache.dtype)
        self._spare = np.broadcast_to(spare, (num_layers, *spare.shape[1:]))  # one for all layers
        self._full_logits = np.empty(0, np.float32)
        self._bindings: OrderedDict[_Shape, Binding] = OrderedDict()

    def __len__(self) -> int:
        return len(self._bindings)

    def bind(self, batch: Batch) -> Binding:
        """The binding of a batch's shape: the cached one, or a new one in the oldest's place."""
        shape = _Shape(
            batch.num_chunked,
            batch.num_decoded,
            len(batch.rows),
            batch.chunk.slot if batch.chunk else 0,
            batch.decode.first_slot if batch.decode else 0,
            batch.full_logits,
        )
        if binding := self._bindings.get(shape):
            self._bindings.move_to_end(shape)
            return binding
        binding = self._new(shape)
        self._bindings[shape] = binding
        if len(self._bindings) > MAX_BINDINGS:
            self._bindings.popitem(last=False)
        return binding

    def _new(self, shape: _Shape) -> Binding:
        session = self._graphs.pick(shape.num_chunked, shape.num_decoded)
        io = session.io_binding()
        num_tokens = shape.num_chunked + shape.num_decoded
        candidates = self._new_candidates(shape)
        binding = Binding(
            session,
            io,
            input_ids=np.empty(num_tokens, np.int64),
            position_ids=np.empty(num_tokens, np.int64),
            rows=np.empty(shape.num_rows, np.int64),
            # Attention has the chunk's rows first, and one even where there is no chunk.
            attention_rows=np.arange(num_tokens) + (shape.num_chunked == 0),
            chunk=self._bind_chunk(io, shape),
            decode=self._bind_decode(io, shape),
            candidates=candidates,
        )
        _bind_input(io, contract.GRAPH_INPUT_IDS, binding.input_ids)
        _bind_input(io, contract.GRAPH_POSITION_IDS, binding.position_ids)
        _bind_input(io, contract.GRAPH_ROWS, binding.rows)
        _bind_input(io, contract.GRAPH_ATTENTION_ROWS, binding.attention_rows)
        _bind_output(io, contract.GRAPH_TOP_LOGITS, candidates.logits)
        _bind_output(io, contract.GRAPH_TOP_TOKENS, candidates.tokens)
        _bind_output(io, contract.GRAPH_LSE, candidates.lse)
        if candidates.full is not None:
            _bind_output(io, contract.GRAPH_LOGITS, candidates.full)
        return binding

    def _bind_chunk(self, io: ort.IOBinding, shape: _Shape) -> _Part:
        attended = np.arange(max(1, shape.num_chunked))[None]  # (1, T)
        cache = self._cache[:, :, shape.chunk_slot : shape.chunk_slot + 1]
        cache = cache if shape.num_chunked else self._spare
        return _bind_part(io, contract.chunk_name, attended, cache)

    def _bind_decode(self, io: ort.IOBinding, shape: _Shape) -> _Part:
        first = shape.num_chunked if shape.num_decoded else 0
        attended = np.arange(first, first + max(1, shape.num_decoded))[:, None]  # (B, 1)
        cache = self._cache[:, :, shape.first_slot : shape.first_slot + shape.num_decoded]
        cache = cache if shape.num_decoded else self._spare
        return _bind_part(io, str, attended, cache)

    def _new_candidates(self, shape: _Shape) -> Candidates:
        size = (shape.num_rows, self._num_candidates)  # (R, K)
        return Candidates(
            np.empty(size, np.float32),
            np.empty(size, np.int64),
            np.empty(shape.num_rows, np.float32),
            self._full_view(shape.num_rows) if shape.full_logits else None,
            self._graphs.name(shape.num_chunked, shape.num_decoded),
        )

    def _full_view(self, num_rows: int) -> NDArray[np.float32]:
        """(R, V) of the one buffer of full logits, which grows to the largest R seen."""
        size = num_rows * self._vocab_size
        if self._full_logits.size < size:
            self._bindings.clear()  # they point into the smaller buffer
            self._full_logits = np.empty(size, np.float32)
        return self._full_logits[:size].reshape(num_rows, self._vocab_size)


def _bind_part(
    io: ort.IOBinding, name: Callable[[str], str], attended: NDArray[np.int64], cache: Cache
) -> _Part:
    """Bind a part's inputs, each row of length 1 until it is filled, and its slots' cache."""
    part = _Part(attended, np.zeros(len(attended), np.int32), np.ones(1, np.int32))
    _bind_input(io, name(contract.GRAPH_ATTENDED), part.attended)
    _bind_input(io, name(contract.GRAPH_SEQLENS_K), part.seqlens_k)
    _bind_input(io, name(contract.GRAPH_TOTAL_LEN), part.total_len)
    for layer, of_layer in enumerate(cache):
        for kind, slots in zip("kv", of_layer, strict=True):  # (B, H, M, D)
            _bind_input(io, name(contract.past_name(layer, kind)), slots)
            _bind_output(io, name(contract.present_name(layer, kind)), slots)
    return part


def _bind_input(io: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
    assert array.flags.c_contiguous, name
    io.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _bind_output(io: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
    assert array.flags.c_contiguous, name
    io.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
