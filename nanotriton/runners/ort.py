"""model.onnx on the CPU through ONNX Runtime: the runner of machines without a GPU.

Comes in: an exported version's folder. Goes out: `OrtRunner`. The KV cache is one array whose slot
views are bound to the graphs' past and present by address (`runners.bindings`), so a step copies no
cache and either graph of a version (`runners.graphs`) may take it. Knows nothing of requests, text
or sampling; that the files are the manifest's is doctor's to check.
"""

from pathlib import Path

import numpy as np

from nanotriton.errors import RunnerError
from nanotriton.manifest import Manifest
from nanotriton.runners.base import Batch, Candidates, Copy, check_batch, fit_slots
from nanotriton.runners.bindings import Bindings
from nanotriton.runners.graphs import BY_ROWS, ORT_ERRORS, Graphs, GraphUse, first_line


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
        graphs = Graphs(folder, manifest, num_threads, use, spinning=spinning)
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
            manifest.kv_dtype,
        )  # (L, 2, S, H, M, D)
        self.cache_bytes = self._cache.nbytes
        self.has_native_attention = graphs.has_native_attention
        self._bindings = Bindings(graphs, self._cache, manifest)

    def run(self, batch: Batch) -> Candidates:
        """Make the copies, append the tokens to their slots, return the wanted rows' candidates."""
        check_batch(batch, self)
        for one in batch.copies:
            self._copy(one)
        binding = self._bindings.bind(batch)
        binding.fill(batch, self.context)
        try:
            binding.session.run_with_iobinding(binding.io)
        except ORT_ERRORS as error:
            raise RunnerError(f"ONNX Runtime failed: {first_line(error)}") from None
        return binding.candidates

    def _copy(self, one: Copy) -> None:
        """Copy a beginning of keys and values, (L, 2, H, T, D), from slot to slot."""
        self._cache[:, :, one.target, :, : one.length] = self._cache[
            :, :, one.source, :, : one.length
        ]


def slots_within(cache_bytes: int, manifest: Manifest) -> int:
    """KV slots that fit into so many bytes; raises RunnerError when not even one does."""
    return fit_slots(cache_bytes, manifest.slot_bytes)
