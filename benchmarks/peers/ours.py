"""Our own engine on the same terms, without a server: the graph's greedy tokens, step by step.

The prefix cache and speculation are off, since the peers have nothing like them on and random
weights repeat themselves. Keys and values have 8 bits, as OpenVINO keeps them on a CPU unless told
otherwise. Export runs in a process of its own, as people run it.
"""

import sys
import time
from collections.abc import Sequence

from benchmarks.common.random_model import export_version
from benchmarks.peers.serving import Options, serve
from nanotriton.contract import GRAPH_FILE, MANIFEST_FILE
from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.events import Failure
from nanotriton.engine.request import Request, Settings
from nanotriton.manifest import Manifest
from nanotriton.runners.graphs import BY_ROWS, GraphUse
from nanotriton.runners.ort import OrtRunner
from nanotriton.tokenizer import load_tokenizer


class Ours:
    """An engine over one version; `auto` uses both of its graphs, as it is served."""

    def __init__(self, options: Options) -> None:
        version = options.work / "version"
        if not (version / MANIFEST_FILE).is_file():
            export_version(options.checkpoint, version, kv="int8")
        runner = OrtRunner(
            version,
            options.max_sequences,
            options.num_threads,
            graph_use(options.precision, Manifest.load(version)),
        )
        limits = EngineOptions(prefix_cache=False, speculation=False)
        tokenizer = load_tokenizer(version)
        self._engine = Engine(runner, tokenizer, lambda: 0, time.perf_counter, limits)

    def add(self, key: int, prompt: Sequence[int], num_new: int) -> None:
        """The engine plans it into its next steps."""
        settings = Settings(max_tokens=num_new, ignore_eos=True)
        self._engine.submit(Request((b"", key), tuple(prompt), settings))

    def cancel(self, key: int) -> None:
        """Its slot is free for the next step."""
        self._engine.cancel((b"", key))

    def step(self) -> list[tuple[int, int]]:
        """One step of the engine."""
        found = []
        for event in self._engine.step():
            if isinstance(event, Failure):
                raise event.error
            found += [(event.key[1], token) for token in event.tokens]
        return found


def graph_use(precision: str, manifest: Manifest) -> GraphUse:
    """Which of a version's two graphs answer: "int8", "int4", or "auto" for both."""
    if precision == "auto":
        return BY_ROWS
    assert manifest.decode_graph is not None, "the version was exported with one graph"
    return GraphUse(only={"int8": GRAPH_FILE, "int4": manifest.decode_graph.file}[precision])


if __name__ == "__main__":
    sys.exit(serve(Ours, ("nanotriton", "onnxruntime")))
