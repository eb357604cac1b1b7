"""The static TensorRT dialect on the CPU, through ONNX Runtime: what holds it to parity.

It keeps the runner protocol, so that everything that measures a runner measures the graph that a
plan is built of, with the cache written in place as TensorRT writes it. It is a check and serves
nobody: FP16 is computed in float32 here and rounded between operators, at most as much as on a GPU.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from export.caches import num_positions
from nanotriton import contract
from nanotriton.contract import GRAPH_FILE
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch, Candidates, check_batch


class DialectRunner:
    """Runs `folder`/model.onnx, in the static form, with `num_slots` KV slots."""

    def __init__(self, folder: Path, manifest: Manifest, num_slots: int, num_threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            folder / GRAPH_FILE, options, ["CPUExecutionProvider"]
        )
        self.num_slots = num_slots
        self.context = manifest.context
        self.vocab_size = manifest.vocab_size
        self.num_candidates = manifest.num_candidates
        length = num_positions(manifest.context, manifest.head_dim)
        heads, head_dim = manifest.num_heads, manifest.head_dim
        sizes = (manifest.num_layers, 2, num_slots, heads, length, head_dim)
        self._cache = np.zeros(sizes, manifest.kv_dtype)  # (L, 2, S, H, M, D)
        self.cache_bytes = self._cache.nbytes
        self.has_native_attention = False

    def run(self, batch: Batch) -> Candidates:
        """Make the copies, append the tokens to their slots, return the wanted rows' candidates.

        A chunk and decode rows are two calls of the graph, as they are for TensorRT.
        """
        check_batch(batch, self)
        for one in batch.copies:
            source = self._cache[:, :, one.source, :, : one.length]
            self._cache[:, :, one.target, :, : one.length] = source
        found: list[Candidates] = []
        if chunk := batch.chunk:
            past = np.array([chunk.past_length])
            found.append(self.call(chunk.slot, chunk.input_ids[None], past))
        if decode := batch.decode:
            ids = decode.input_ids[:, None]
            found.append(self.call(decode.first_slot, ids, decode.past_lengths))
        full = np.concatenate([one.full for one in found if one.full is not None])[batch.rows]
        return Candidates(
            np.concatenate([one.logits for one in found])[batch.rows],
            np.concatenate([one.tokens for one in found])[batch.rows],
            np.concatenate([one.lse for one in found])[batch.rows],
            full if batch.full_logits else None,
        )

    def call(
        self, first_slot: int, input_ids: NDArray[np.int64], past_lengths: NDArray[np.integer[Any]]
    ) -> Candidates:
        """One call of the graph for (B, T) tokens: all logits of every token."""
        num_sequences, num_tokens = input_ids.shape
        past = past_lengths.astype(np.int64)
        io = self._session.io_binding()
        positions = past[:, None] + np.arange(num_tokens)
        for name, array in (
            (contract.GRAPH_INPUT_IDS, input_ids),
            (contract.GRAPH_POSITION_IDS, np.minimum(positions, self.context - 1)),
            (contract.GRAPH_WRITE_INDICES, past),
            (contract.GRAPH_ROWS, np.arange(input_ids.size)),
        ):
            io.bind_cpu_input(name, np.ascontiguousarray(array))
        self._bind_cache(io, slice(first_slot, first_slot + num_sequences))
        names = [contract.GRAPH_TOP_LOGITS, contract.GRAPH_TOP_TOKENS, contract.GRAPH_LSE]
        names.append(contract.GRAPH_LOGITS)
        for name in names:
            io.bind_output(name, "cpu")
        self._session.run_with_iobinding(io)
        found = io.get_outputs()[-len(names) :]
        return Candidates(*(one.numpy() for one in found))

    def _bind_cache(self, io: onnxruntime.IOBinding, slots: slice) -> None:
        """Past and present of a layer at one address."""
        for layer, pair in enumerate(self._cache):
            for kind, whole in zip("kv", pair, strict=True):
                cache: NDArray[np.generic] = whole[slots]  # (B, H, M, D)
                place = ("cpu", 0, cache.dtype, cache.shape, cache.ctypes.data)
                io.bind_input(contract.past_name(layer, kind), *place)
                io.bind_output(contract.present_name(layer, kind), *place)
