"""Triton model `completion_stream`: text in, text out piece by piece as it is written.

Called directly, not through an ensemble, so that a client that goes away is noticed (Triton
passes no cancellation into an ensemble's steps). It talks to the engine that the model `gpt` of
the same server started, so streams and unary completions share one batch.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nanotriton.cancellation import CancellationWatch, NamedRequests
from nanotriton.contract import (
    CANCEL,
    COMPLETION_TOKENS,
    FINISH_REASON,
    INDEX,
    LOGPROBS,
    PROMPT_TOKENS,
    STREAM,
    SUFFIX,
    TEXT_INPUT,
    TEXT_OUTPUT,
)
from nanotriton.engine.client import EngineClient
from nanotriton.engine.events import Event, Failure
from nanotriton.engine.request import Settings, refuse_unknown, utf8
from nanotriton.engine.succession import NewestEngine
from nanotriton.engine.texts import Texts
from nanotriton.errors import InvalidRequest, NanotritonError
from nanotriton.prompt import encode_prompt
from nanotriton.tracing import ENDPOINT, RequestSpans

READY_TIMEOUT_S = 60.0  # gpt, which starts the engine, is loaded beside this model


class TritonPythonModel:
    """Each request: text_input (1,) BYTES in, responses with a piece of text_output (1,) out."""

    def initialize(self, args: dict[str, str]) -> None:
        """Find the engine of the newest version that is loaded."""
        repository = Path(args["model_repository"]).parent
        self._newest = NewestEngine(
            *(repository, os.getppid(), READY_TIMEOUT_S),
            log=lambda message: pb_utils.Logger.log_error(f"completion_stream: {message}"),
        )
        self._watch = CancellationWatch()
        self._named = NamedRequests(time.monotonic)
        url = os.environ.get(ENDPOINT)
        self._spans = RequestSpans(url) if url else None

    def execute(self, requests: list[Any]) -> None:
        """Hand every request to the engine; the pieces are sent as they come."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._start(request, sender)
            except NanotritonError as error:
                send_error(sender, error)

    def finalize(self) -> None:
        """Leave the engine, once the streams have ended."""
        self._newest.close()
        self._watch.close()
        if self._spans:
            self._spans.close()

    def _start(self, request: Any, sender: Any) -> None:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        refuse_unknown(request.parameters())
        if bool(tensors.get(CANCEL, [False])[0]):
            self._named.cancel(request.request_id())
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            return
        text = tensors.get(TEXT_INPUT)
        if text is None:  # the server lets it pass when an optional input is there
            raise InvalidRequest(f"the input {TEXT_INPUT} is missing: send the prompt in it")
        suffix = tensors.get(SUFFIX)
        settings = Settings.from_tensors(tensors)
        served = self._newest.current
        prompt = encode_prompt(
            utf8(text[0], TEXT_INPUT),
            served.tokenizer,
            served.context,
            settings.max_tokens,
            settings.truncate,
            suffix="" if suffix is None else utf8(suffix[0], SUFFIX),
            markers=served.markers,
        )
        wants_pieces = tensors.get(STREAM)
        in_pieces = wants_pieces is None or bool(wants_pieces[0])
        if in_pieces and settings.num_texts > settings.n:
            raise InvalidRequest(
                f"best_of is {settings.num_texts}, n is {settings.n}: a stream can't choose before "
                "all is written, leave best_of out, set stream=false or ask the model completion"
            )
        trace = (request.trace().get_context() or "") if self._spans else ""
        on_end = partial(self._spans.add, trace) if self._spans and trace else None
        stream = Stream(
            *(sender, served.client, self._watch, served.tokenizer.table, settings),
            in_pieces=in_pieces,
            on_end=on_end,
        )
        stream.start(prompt, self._named, request.request_id())


class Stream:
    """One request under way: turns the engine's events into responses.

    Piece by piece, or one response with all its texts at their end.
    """

    def __init__(
        self,
        sender: Any,
        client: EngineClient,
        watch: CancellationWatch,
        table: tuple[bytes, ...],
        settings: Settings,
        *,
        in_pieces: bool,
        on_end: Callable[[Event], None] | None,
    ) -> None:
        self._sender = sender
        self._client = client
        self._watch = watch
        self._table = table
        self._settings = settings
        self._in_pieces = in_pieces
        self._on_end = on_end
        self._texts = Texts(settings)
        self._forget_name: Callable[[], None] = lambda: None
        self._request_id: int | None = None
        self._is_cancelled = False

    def start(self, prompt: list[int], named: NamedRequests, name: str) -> None:
        """Submit the request and watch whether its client stays, or ends it by its name."""
        self._forget_name = named.add(name, self._cancel)
        self._watch.add(id(self), self._sender.is_cancelled, self._cancel)
        self._request_id = self._client.submit(
            prompt, self._settings, self._on_event, in_pieces=self._in_pieces
        )
        if self._is_cancelled:  # before it was submitted
            self._cancel()

    def _cancel(self) -> None:
        self._is_cancelled = True
        if self._request_id is not None:
            self._client.cancel(self._request_id)

    def _on_event(self, event: Event) -> None:
        self._texts.add(event)
        if self._texts.is_whole:
            self._watch.remove(id(self))  # before the final response, see CancellationWatch
            self._forget_name()
            if self._on_end:
                self._on_end(event)
        if isinstance(event, Failure):
            send_error(self._sender, event.error)
        elif not self._in_pieces:
            if self._texts.is_whole:
                self._send(range(self._settings.n))
        elif event.finish_reason or self._texts.texts[event.index].text:
            self._send([event.index])

    def _send(self, indices: Sequence[int]) -> None:
        """Send what came of some texts since the last response that held them."""
        texts = [self._texts.take(index) for index in indices]
        usage = self._texts.usage
        outputs = {
            TEXT_OUTPUT: np.array([one.text.encode() for one in texts], np.object_),
            FINISH_REASON: np.array([one.finish_reason for one in texts], np.object_),
            PROMPT_TOKENS: np.array([usage.prompt_tokens if usage else 0], np.int32),
            COMPLETION_TOKENS: np.array([usage.completion_tokens if usage else 0], np.int32),
            INDEX: np.array(indices, np.int32),
        }
        if self._settings.logprobs is not None:
            likely = [one.logprobs_json(self._table) for one in texts]
            outputs[LOGPROBS] = np.array(likely, np.object_)
        response = pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in outputs.items()])
        final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        self._sender.send(response, flags=final if self._texts.is_whole else 0)


def send_error(sender: Any, error: NanotritonError) -> None:
    """End a request with what went wrong; without a final response its client would hang.

    Triton drops an error's status inside a stream, so it stands in the message too.
    """
    status = getattr(pb_utils.TritonError, error.status)
    what = pb_utils.TritonError(f"[{error.status}] {error}", status)
    response = pb_utils.InferenceResponse(error=what)
    sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
