"""Tensors to and from the gateway's JSON and server-sent events, which are OpenAI's; no I/O.

Comes in: a request's tensors, and bytes as the network cut them. Goes out: bodies for
POST /v1/completions, Completion, Chunks and errors. Settings beyond OpenAI's go by their own names;
the gateway refuses by name what it doesn't support.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from clients import errors
from clients.envelope import Envelope
from clients.errors import ClientError, malformed
from clients.messages import Choice, Chunk, Completion, TokenLogprob
from clients.tensors import Tensor

UNARY_PATH = STREAM_PATH = "/v1/completions"
READY_PATHS: tuple[str, ...] = ("/health/ready",)
MODELS_PATH = "/v1/models"
_DONE = b"[DONE]"


def headers_of(envelope: Envelope, left_s: float) -> dict[str, str]:
    """The headers of a request: the caller's, its id, and how long it may take."""
    told = {"x-request-id": envelope.request_id} if envelope.request_id else {}
    told["x-request-timeout-ms"] = str(max(1, int(left_s * 1000)))
    return {**told, **dict(envelope.headers)}


def encode_unary(tensors: Iterable[Tensor], request_id: str = "") -> dict[str, Any]:
    """A body for UNARY_PATH; the request's id goes with the headers."""
    del request_id
    values: dict[str, Any] = {
        one.name: list(one.values) if one.is_list else one.values[0] for one in tensors
    }
    values.pop("stream", None)  # how it is streamed is OpenAI's to say
    if "logit_bias" in values:
        values["logit_bias"] = _bias(values["logit_bias"])
    return {"prompt": values.pop("text_input"), **values}


def encode_stream(tensors: Iterable[Tensor], request_id: str = "") -> dict[str, Any]:
    """A body for STREAM_PATH, whose last event then tells the counts."""
    tensors = tuple(tensors)
    if Tensor("stream", "BOOL", (False,)) in tensors:
        raise errors.InvalidRequest("the gateway streams in pieces alone: use complete")
    told = {"stream": True, "stream_options": {"include_usage": True}}
    return {**encode_unary(tensors, request_id), **told}


def decode_unary(body: bytes) -> Completion:
    """The completion in an answer; raises ServerError when there is none."""
    try:
        answer = json.loads(body)
        choices = sorted(answer["choices"], key=lambda one: int(one["index"]))
        first, *others = [
            Choice(_text(one["text"]), _text(one["finish_reason"]), _logprobs(one))
            for one in choices
        ]
        counts = _counts(answer["usage"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise malformed(repr(error)) from None
    return Completion(first.text, first.finish_reason, *counts, first.logprobs, tuple(others))


def decode_models(body: bytes) -> tuple[str, ...]:
    """The ids of the models in a list of them; raises ServerError when it isn't one."""
    try:
        return tuple(_text(one["id"]) for one in json.loads(body)["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise malformed(repr(error)) from None


class EventDecoder:
    """Bytes of a text/event-stream in, chunks out, however the network cut the bytes.

    The counts come in an event of their own, after every text has ended: the last chunk of a text
    waits for the next event, so that the answer's last chunk has both, as from Triton.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._ended: Chunk | None = None

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that became whole; raises ClientError on an error event or on garbage."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event = line.removeprefix(b"data:").strip()
            if line.startswith(b"data:") and event != _DONE:
                yield from self._decode(event)

    def _decode(self, data: bytes) -> Iterator[Chunk]:
        try:
            event = json.loads(data)
            if "error" in event:
                raise error_of(500, {}, data)
            pieces = [_chunk(one) for one in event["choices"]]
            counts = _counts(event["usage"]) if event.get("usage") else None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise malformed(repr(error)) from None
        held, self._ended = self._ended, None
        chunks = [*([held] if held else []), *pieces]
        if counts:
            last = chunks.pop() if chunks else Chunk("")
            chunks.append(replace(last, prompt_tokens=counts[0], completion_tokens=counts[1]))
        elif chunks and chunks[-1].finish_reason:
            self._ended = chunks.pop()
        yield from chunks


# The gateway's types of errors, and the statuses that a proxy on the way answers with.
_KINDS: dict[str | int, type[ClientError]] = {
    "invalid_request_error": errors.InvalidRequest,
    "authentication_error": errors.Unauthorized,
    "permission_error": errors.Unauthorized,
    "rate_limit_error": errors.RateLimited,
    "overloaded_error": errors.RateLimited,
    "insufficient_quota": errors.RateLimited,
    "superseded": errors.Superseded,
    "service_unavailable": errors.Unavailable,
    "timeout_error": errors.Timeout,
    **dict.fromkeys((400, 404, 413, 415, 422, 431), errors.InvalidRequest),
    **dict.fromkeys((401, 403), errors.Unauthorized),
    **dict.fromkeys((502, 503), errors.Unavailable),
    **dict.fromkeys((408, 504), errors.Timeout),
    429: errors.RateLimited,
}


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
    """The error of an answer that isn't 200, or of an event in a stream."""
    try:
        told = json.loads(body)["error"]
        kind, message = _KINDS.get(str(told["type"])), str(told["message"])
    except (ValueError, KeyError, TypeError):
        kind, message = None, f"the gateway answered HTTP {status}"
    made = (kind or _KINDS.get(status, errors.ServerError))(message)
    if isinstance(made, errors.Unavailable):
        made.retry_after_s = _seconds(headers.get("retry-after", ""))
    return made


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() else None


def _chunk(choice: Mapping[str, Any]) -> Chunk:
    reason = choice.get("finish_reason")
    return Chunk(
        _text(choice["text"]),
        None if reason is None else _text(reason),
        logprobs=_logprobs(choice),
        index=int(choice["index"]),
    )


def _logprobs(choice: Mapping[str, Any]) -> tuple[TokenLogprob, ...]:
    """Of OpenAI's columns, which name tokens by their text alone."""
    told = choice.get("logprobs")
    if not told:
        return ()
    tops = told.get("top_logprobs") or [{}] * len(told["tokens"])
    rows = zip(told["tokens"], told["token_logprobs"], tops, strict=True)
    return tuple(
        TokenLogprob(None, text, value, tuple(_likeliest(top or {}))) for text, value, top in rows
    )


def _likeliest(top: Mapping[str, float]) -> Iterator[TokenLogprob]:
    for text, value in sorted(top.items(), key=lambda one: -one[1]):
        yield TokenLogprob(None, text, value)


def _bias(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise errors.InvalidRequest(
            f'logit_bias is {text!r:.80}: give a JSON object, such as {{"50256": -100}}'
        ) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is no text")
    return value


def _counts(usage: Mapping[str, Any]) -> tuple[int, int]:
    return int(usage["prompt_tokens"]), int(usage["completion_tokens"])
