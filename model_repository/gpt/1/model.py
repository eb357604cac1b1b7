"""Triton model `gpt`: token ids in, token ids out; the adapter between Triton and the engine.

It starts and supervises the engine's process, hands every row to it, and answers later, from the
engine client's thread: so the engine batches rows of all requests step by step, whatever batches
Triton made.
"""

import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nanotriton.cancellation import CancellationWatch
from nanotriton.contract import (
    COMPLETION_TOKENS,
    FINISH_REASON,
    INPUT_IDS,
    INPUT_LENGTHS,
    LOGPROBS,
    OUTPUT_IDS,
    PROMPT_TOKENS,
    TEXT_BYTES,
)
from nanotriton.engine.client import EngineClient
from nanotriton.engine.events import Event, Failure, Usage, is_final
from nanotriton.engine.exposition import Exposition
from nanotriton.engine.logprobs import TokenLogprob, to_json
from nanotriton.engine.protocol import socket_path
from nanotriton.engine.request import Settings
from nanotriton.engine.supervisor import EngineSupervisor
from nanotriton.errors import InvalidRequest, NanotritonError
from nanotriton.tokenizer import load_tokenizer
from nanotriton.tracing import ENDPOINT, RequestSpans

READY_TIMEOUT_S = 120.0
METRICS_PERIOD_S = 1.0
PARAMETERS = (
    *("max_slots", "kv_cache_bytes", "max_waiting", "prefill_chunk", "threads", "spinning"),
    *("prefix_cache", "speculation", "isolate_users"),
    *("deterministic", "max_decode_rows", "step_timeout_ms"),
)


class TritonPythonModel:
    """Rows of input_ids, (B, T) INT32 with input_lengths, (B, 1), to completions."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start the engine of this version and wait until it answers."""
        folder = Path(args["model_repository"], args["model_version"])
        path = socket_path(folder.parent.parent, int(args["model_version"]), os.getppid())
        self._table = load_tokenizer(folder).table
        self._supervisor = EngineSupervisor(
            [str(folder), "--socket", str(path), *engine_options(args["model_config"])],
            log=lambda message: pb_utils.Logger.log_error(f"gpt: {message}"),
        )
        self._supervisor.start()
        self._client = EngineClient(path)
        self._client.wait_ready(READY_TIMEOUT_S)
        self._watch = CancellationWatch()
        url = os.environ.get(ENDPOINT)
        self._spans = RequestSpans(url) if url else None
        self._exposition = Exposition(make_family, (("version", args["model_version"]),))
        self._stopping = threading.Event()
        self._metrics = threading.Thread(target=self._show_metrics, name="metrics", daemon=True)
        self._metrics.start()

    def execute(self, requests: list[Any]) -> None:
        """Hand every request to the engine; each is answered when its last row is done."""
        for request in requests:
            Answer(request, self._client, self._watch, self._table, self._spans).start()

    def finalize(self) -> None:
        """End the engine."""
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
        self._tokens: list[list[int]] = []
        self._logprobs: list[list[TokenLogprob]] = []
        self._wants_logprobs: list[bool] = []
        self._ends: list[Event | None] = []
        self._row_ids: list[int] = []
        self._is_cancelled = False

    def start(self) -> None:
        """Submit every row, or answer with what is wrong."""
        try:
            rows = self._read_rows()
        except NanotritonError as error:
            self._send(error=error)
            return
        self._tokens = [[] for _ in rows]
        self._logprobs = [[] for _ in rows]
        self._wants_logprobs = [settings.logprobs is not None for _, settings in rows]
        self._ends = [None for _ in rows]
        self._watch.add(id(self), self._sender.is_cancelled, self._cancel)
        for row, (ids, settings) in enumerate(rows):
            on_event = partial(self._on_event, row)
            self._row_ids.append(self._client.submit(ids, settings, on_event))
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
        if not isinstance(event, Failure):
            self._tokens[row] += event.tokens
            self._logprobs[row] += event.logprobs
        if is_final(event):
            self._ends[row] = event
            if self._spans:
                self._spans.add(self._trace, event, row=row)
            if isinstance(event, Failure):
                self._cancel()
            if all(self._ends):
                self._watch.remove(id(self))
                self._finish()

    def _cancel(self) -> None:
        self._is_cancelled = True
        for row_id in self._row_ids:
            self._client.cancel(row_id)

    def _finish(self) -> None:
        """Answer with every row's tokens, padded on the right, or with the first failure."""
        usages: list[Usage] = []
        reasons: list[str] = []
        for end in self._ends:
            if isinstance(end, Failure):
                self._send(error=end.error)
                return
            assert end is not None
            assert end.usage is not None
            usages.append(end.usage)
            reasons.append(end.finish_reason or "")
        ids = np.zeros((len(usages), max(map(len, self._tokens))), np.int32)  # (B, T)
        for padded, tokens in zip(ids, self._tokens, strict=True):
            padded[: len(tokens)] = tokens
        likely = [
            to_json(one, self._table) if is_wanted else ""
            for one, is_wanted in zip(self._logprobs, self._wants_logprobs, strict=True)
        ]
        column = partial(np.array, ndmin=2)
        self._send(
            tensors={
                OUTPUT_IDS: ids,
                FINISH_REASON: column(reasons, dtype=np.object_).T,
                PROMPT_TOKENS: column([one.prompt_tokens for one in usages], dtype=np.int32).T,
                COMPLETION_TOKENS: column(
                    [one.completion_tokens for one in usages], dtype=np.int32
                ).T,
                TEXT_BYTES: column([one.text_bytes for one in usages], dtype=np.int32).T,
                LOGPROBS: column(likely, dtype=np.object_).T,
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


def engine_options(model_config: str) -> list[str]:
    """The engine's command line from `parameters` in config.pbtxt; the rest keeps its default."""
    parameters = json.loads(model_config).get("parameters", {})
    return [
        word
        for name in PARAMETERS
        if name in parameters
        for word in (f"--{name.replace('_', '-')}", parameters[name]["string_value"])
    ]
