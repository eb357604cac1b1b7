"""Triton model `gpt`: token ids in, token ids out; the adapter between Triton and the engine.

It starts and supervises the engine's process, hands every row to it, and answers later, from the
engine client's thread: so the engine batches rows of all requests step by step, whatever batches
Triton made.
"""

import json
import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from numpy.typing import NDArray

from nanotriton.cancellation import CancellationWatch
from nanotriton.contract import (
    COMPLETION_TOKENS,
    FINISH_REASON,
    HEALED_BYTES,
    INPUT_IDS,
    INPUT_LENGTHS,
    LOGPROBS,
    OUTPUT_IDS,
    PROMPT_TOKENS,
    TEXT_BYTES,
    TEXT_TOKENS,
)
from nanotriton.engine.client import EngineClient
from nanotriton.engine.events import Event
from nanotriton.engine.exposition import Exposition
from nanotriton.engine.meter import Labels
from nanotriton.engine.protocol import socket_path
from nanotriton.engine.request import Settings
from nanotriton.engine.settings import words_of
from nanotriton.engine.succession import wait_unused
from nanotriton.engine.supervisor import EngineSupervisor
from nanotriton.engine.texts import Texts
from nanotriton.errors import InvalidRequest, NanotritonError
from nanotriton.manifest import Manifest
from nanotriton.tokenizer import load_tokenizer
from nanotriton.tracing import ENDPOINT, RequestSpans

READY_TIMEOUT_S = 120.0
METRICS_PERIOD_S = 1.0


class TritonPythonModel:
    """Rows of input_ids, (B, T) INT32 with input_lengths, (B, 1), to completions."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine of this version and wait until it answers."""
        folder = Path(args["model_repository"], args["model_version"])
        self._path = socket_path(folder.parent.parent, int(args["model_version"]), os.getppid())
        self._table = load_tokenizer(folder).table
        self._supervisor = EngineSupervisor(
            [str(folder), "--socket", str(self._path), *engine_options(args["model_config"])],
            log=lambda message: pb_utils.Logger.log_error(f"gpt: {message}"),
        )
        self._supervisor.start()
        self._client = EngineClient(self._path)
        self._client.wait_ready(READY_TIMEOUT_S)
        self._watch = CancellationWatch()
        url = os.environ.get(ENDPOINT)
        self._spans = RequestSpans(url) if url else None
        self._exposition = Exposition(make_family, (("version", args["model_version"]),))
        self._exposition.show_model(model_facts(Manifest.load(folder)))
        self._stopping = threading.Event()
        self._metrics = threading.Thread(target=self._show_metrics, name="metrics", daemon=True)
        self._metrics.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand every request to the engine; each is answered when its last row is done."""
        for request in requests:
            Answer(request, self._client, self._watch, self._table, self._spans).start()

    def finalize(self) -> None:
        """End the engine, once streams that began on it have ended."""
        wait_unused(self._client, self._path)
        self._stopping.set()
        self._metrics.join()
        self._watch.close()
        self._client.close()
        if self._spans:
            self._spans.close()
        self._supervisor.stop()

    def _show_metrics(self) -> None:
        """Once a second: what the engine counted, on Triton's metrics page."""
        while not self._stopping.wait(METRICS_PERIOD_S):
            try:
                self._exposition.update(self._client.stats(), self._supervisor.restarts)
            except NanotritonError:
                continue  # the engine is starting again; the page keeps what it showed


def model_facts(manifest: Manifest) -> Labels:
    """What the metrics page tells of the model."""
    return (
        ("precision", manifest.precision),
        ("checkpoint", manifest.checkpoint_sha256[:12]),
        ("context", str(manifest.context)),
        ("runner", manifest.runner),
    )


def make_family(name: str, description: str, is_gauge: bool) -> Any:
    """A family of Triton's metrics page."""
    kind = pb_utils.MetricFamily.GAUGE if is_gauge else pb_utils.MetricFamily.COUNTER
    return pb_utils.MetricFamily(name=name, description=description, kind=kind)


class Answer:
    """One request under way: collects its rows' tokens and sends the one response."""

    def __init__(
        self,
        request: Any,
        client: EngineClient,
        watch: CancellationWatch,
        table: tuple[bytes, ...],
        spans: RequestSpans | None,
    ) -> None:
        self._request = request
        self._spans = spans
        self._trace = (request.trace().get_context() or "") if spans else ""
        self._sender = request.get_response_sender()
        self._client = client
        self._watch = watch
        self._table = table
        self._rows: list[Texts] = []
        self._row_ids: list[int] = []
        self._is_cancelled = False

    def start(self) -> None:
        """Submit every row, or answer with what is wrong."""
        try:
            rows = self._read_rows()
        except NanotritonError as error:
            self._send(error=error)
            return
        self._rows = [Texts(settings) for _, settings in rows]
        self._watch.add(id(self), self._sender.is_cancelled, self._cancel)
        for row, (ids, settings) in enumerate(rows):
            on_event = partial(self._on_event, row)
            row_id = self._client.submit(ids, settings, on_event, in_pieces=False)
            self._row_ids.append(row_id)
        if self._is_cancelled:  # before every row was submitted
            self._cancel()

    def _read_rows(self) -> list[tuple[list[int], Settings]]:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in self._request.inputs()}
        ids, lengths = tensors.get(INPUT_IDS), tensors.get(INPUT_LENGTHS)
        if ids is None:
            raise InvalidRequest(f"the input {INPUT_IDS} is missing: send the prompt's tokens")
        width = ids.shape[1]
        counts = [width] * len(ids) if lengths is None else lengths[:, 0].tolist()
        if not 0 < min(counts) <= max(counts) <= width:
            raise InvalidRequest(
                f"{INPUT_LENGTHS} runs from {min(counts)} to {max(counts)}, allowed is 1 to "
                f"{width}, the width of {INPUT_IDS}"
            )
        return [
            (row[:count].tolist(), Settings.from_tensors(tensors, index))
            for index, (row, count) in enumerate(zip(ids, counts, strict=True))
        ]

    def _on_event(self, row: int, event: Event) -> None:
        self._rows[row].add(event)
        if self._spans and self._rows[row].is_whole:
            self._spans.add(self._trace, event, row=row)
        if self._rows[row].error:
            self._cancel()
        if all(one.is_whole for one in self._rows):
            self._watch.remove(id(self))
            self._finish()

    def _cancel(self) -> None:
        self._is_cancelled = True
        for row_id in self._row_ids:
            self._client.cancel(row_id)

    def _finish(self) -> None:
        """Answer with every row's texts, or with the first failure."""
        if failed := [row.error for row in self._rows if row.error]:
            self._send(error=failed[0])
            return
        usages = [row.usage for row in self._rows if row.usage]
        texts = [row.texts for row in self._rows]
        ids = [[token for one in row for token in one.tokens] for row in texts]
        counts = [[len(one.tokens) for one in row] for row in texts]
        sizes = [[len(one.text.encode()) for one in row] for row in texts]
        self._send(
            tensors={
                OUTPUT_IDS: padded(ids, np.int32),
                FINISH_REASON: padded([[one.finish_reason for one in row] for row in texts]),
                PROMPT_TOKENS: np.array([[one.prompt_tokens] for one in usages], np.int32),
                COMPLETION_TOKENS: np.array([[one.completion_tokens] for one in usages], np.int32),
                TEXT_TOKENS: padded(counts, np.int32),
                TEXT_BYTES: padded(sizes, np.int32),
                HEALED_BYTES: padded([[one.num_healed for one in row] for row in texts], np.int32),
                LOGPROBS: padded(
                    [[one.logprobs_json(self._table) for one in row] for row in texts]
                ),
            }
        )

    def _send(
        self, tensors: dict[str, Any] | None = None, error: NanotritonError | None = None
    ) -> None:
        """Send the one response there is; a request without one would hang its client."""
        if error:
            status = getattr(pb_utils.TritonError, error.status)
            response = pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), status))
        else:
            named = (tensors or {}).items()
            response = pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in named])
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def padded(rows: Sequence[Sequence[Any]], dtype: type[Any] = np.object_) -> NDArray[Any]:
    """Rows as one tensor, filled up on the right with zeros or empty texts."""
    filled = np.full((len(rows), max(map(len, rows))), "" if dtype is np.object_ else 0, dtype)
    for values, row in zip(filled, rows, strict=True):
        values[: len(row)] = row
    return filled


def engine_options(model_config: str) -> list[str]:
    """The engine's command line from `parameters` in config.pbtxt; the rest keeps its default."""
    parameters = json.loads(model_config).get("parameters", {})
    return words_of({name: one["string_value"] for name, one in parameters.items()})
