"""The graphs of an exported version, opened: a step's shape in, the session that answers it out.

A version has model.onnx, and perhaps a second graph over the same KV cache that is faster for
decode steps of few rows; each is loaded once. Attention is the native library's where there is one
(`runners.native`). Knows nothing of KV slots or of bindings.
"""

from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from nanotriton.contract import GRAPH_FILE, SLOT_ATTENTION
from nanotriton.errors import RunnerError
from nanotriton.manifest import Manifest
from nanotriton.runners.native import find_library

ORT_ERRORS = (
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    RuntimeError,  # what run_with_iobinding raises
)


@dataclass(frozen=True, slots=True)
class GraphUse:
    """How a version's graphs are used.

    `only` is the file of the one graph that answers every step, so that which one does never
    depends on how many rows are under way. `max_decode_rows` takes the place of the manifest's
    number, and 0 leaves every step to model.onnx. Both mean nothing to a version with one graph.
    Without `native_attention` ONNX Runtime's own attention answers, wherever there is another.
    """

    only: str | None = None
    max_decode_rows: int | None = None
    native_attention: bool = True

    def __post_init__(self) -> None:
        if self.max_decode_rows is not None and self.max_decode_rows < 0:
            raise ValueError(f"max_decode_rows is {self.max_decode_rows}, the least is 0")


BY_ROWS = GraphUse()
DETERMINISTIC = GraphUse(only=GRAPH_FILE)


class Graphs:
    """One session a graph; raises RunnerError for what can't be opened.

    `has_native_attention` is false for a version from before it, and where there is no library.
    With `spinning` the threads wait busily between the nodes of a step.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        num_threads: int,
        use: GraphUse,
        *,
        spinning: bool = False,
    ) -> None:
        if manifest.runner != "ort":
            raise RunnerError(
                f"{folder} was exported for the runner {manifest.runner!r}, this one is 'ort': "
                "serve it with its own runner, or export it again"
            )
        decode = manifest.decode_graph
        main = use.only or GRAPH_FILE
        self._files = (main, main)
        library = find_library() if use.native_attention else None

        def open_session(graph_file: str) -> ort.InferenceSession:
            return _open_session(folder, graph_file, num_threads, spinning, library)

        self._main = open_session(main)
        metadata = self._main.get_modelmeta().custom_metadata_map
        self.has_native_attention = library is not None and SLOT_ATTENTION in metadata
        self._decode = self._main
        self._max_decode_rows = 0
        if decode is None or use.only is not None:
            return
        rows = decode.max_rows if use.max_decode_rows is None else use.max_decode_rows
        if rows:
            self._files = (main, decode.file)
            self._decode = open_session(decode.file)
            self._max_decode_rows = rows

    def pick(self, num_chunked: int, num_decoded: int) -> ort.InferenceSession:
        """The session for a call of T tokens of a chunk and B decode rows."""
        return self._decode if self._is_small(num_chunked, num_decoded) else self._main

    def name(self, num_chunked: int, num_decoded: int) -> str:
        """The file of that session's graph."""
        return self._files[self._is_small(num_chunked, num_decoded)]

    def _is_small(self, num_chunked: int, num_decoded: int) -> bool:
        return num_chunked == 0 and num_decoded <= self._max_decode_rows


def first_line(error: Exception) -> str:
    """What an error of ONNX Runtime says, short."""
    return str(error).strip().split("\n", 1)[0][:300]


def _open_session(
    folder: Path, graph_file: str, num_threads: int, spinning: bool, library: Path | None
) -> ort.InferenceSession:
    for name in (graph_file, f"{graph_file}.data"):
        if not (folder / name).is_file():
            raise RunnerError(f"{folder} holds no {name}: export the model again")
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    path = folder / graph_file
    try:
        if library is not None:
            options.register_custom_ops_library(str(library))
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise RunnerError(
            f"ONNX Runtime {ort.__version__} can't load {path}: {first_line(error)}"
        ) from None
