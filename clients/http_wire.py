"""Tensors to and from Triton's JSON and server-sent events; no I/O.

A unary request goes to /infer, not to /generate: Triton answers /generate with 400 whatever the
model's error was, and /infer with the status that belongs to it (measured on 2.51.0; http_server.cc
has EVHTP_RES_BADREQ there). So does /generate_stream: see the mark in clients.errors.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from clients.envelope import Envelope
from clients.errors import ClientError, from_event, from_http, malformed
from clients.messages import Chunk, Completion, Output, ServerInfo
from clients.tensors import ENGINE_MODEL, STREAM_MODEL, UNARY_MODEL, Tensor

UNARY_PATH = f"/v2/models/{UNARY_MODEL}/infer"
STREAM_PATH = f"/v2/models/{STREAM_MODEL}/generate_stream"
METADATA_PATH = f"/v2/models/{ENGINE_MODEL}"
READY_PATHS: tuple[str, ...] = (
    f"/v2/models/{UNARY_MODEL}/ready",
    f"/v2/models/{STREAM_MODEL}/ready",
)


def encode_unary(tensors: Iterable[Tensor], request_id: str = "") -> dict[str, Any]:
    """A body for UNARY_PATH: shapes are (1, n)."""
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [1, len(tensor.values)],
            "data": list(tensor.values),
        }
        for tensor in tensors
    ]
    return {"inputs": inputs, **_identified(request_id)}


def encode_stream(tensors: Iterable[Tensor], request_id: str = "") -> dict[str, Any]:
    """A body for STREAM_PATH: Triton derives the shapes, (n,), from the values."""
    values = {
        tensor.name: list(tensor.values) if tensor.is_list else tensor.values[0]
        for tensor in tensors
    }
    return {**values, **_identified(request_id)}


def _identified(request_id: str) -> dict[str, str]:
    return {"id": request_id} if request_id else {}


def decode_unary(body: bytes) -> Completion:
    """The completion in an answer; raises ServerError when there is none."""
    try:
        outputs: dict[str, list[Output]] = {
            output["name"]: list(output["data"]) for output in json.loads(body)["outputs"]
        }
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise malformed(repr(error)) from None
    return Completion.from_outputs(outputs)


def decode_metadata(body: bytes) -> ServerInfo:
    """What a server has loaded; raises ServerError when it doesn't say."""
    try:
        told = json.loads(body)
        return ServerInfo.of(told["name"], told["versions"])
    except (ValueError, KeyError, TypeError) as error:
        raise malformed(repr(error)) from None


def headers_of(envelope: Envelope, left_s: float) -> dict[str, str]:
    """The headers of a request; how long it may take, the tensor timeout_ms alone tells Triton."""
    del left_s
    return dict(envelope.headers)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ClientError:
    """The error of an answer that isn't 200."""
    del headers
    return from_http(status, body)


class EventDecoder:
    """Bytes of a text/event-stream in, chunks out, however the network cut the bytes.

    Lines are split at line feeds alone: str.splitlines (and so httpx's iter_lines) would also cut
    a JSON text at U+2028 or U+0085, which Triton doesn't escape.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The chunks that became whole; raises ServerError on an error event or on garbage."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield from _decode_event(line.removeprefix(b"data:"))


def _decode_event(data: bytes) -> tuple[Chunk, ...]:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise malformed(error) from None
    if not isinstance(event, Mapping):
        raise malformed(f"an event is {event!r}")
    if "error" in event:
        raise from_event(event["error"])
    return Chunk.all_from_outputs(
        {name: value if isinstance(value, list) else [value] for name, value in event.items()}
    )
