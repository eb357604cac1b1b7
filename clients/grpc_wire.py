"""Tensors to and from Triton's gRPC messages; no I/O.

Numbers are raw little-endian, a text is 4 bytes of length and its UTF-8
(https://github.com/kserve/open-inference-protocol, "raw tensor contents").
"""

import struct
from collections.abc import Iterable

from tritonclient.grpc import service_pb2

from clients.errors import malformed
from clients.messages import Chunk, Completion, Output
from clients.tensors import STREAM_MODEL, UNARY_MODEL, Tensor

_FORMATS = {"INT32": "<i", "INT64": "<q", "FP32": "<f", "BOOL": "<?"}


def encode_unary(tensors: Iterable[Tensor], request_id: str = "") -> service_pb2.ModelInferRequest:
    """A request to the batched model: shapes are (1, n)."""
    return _encode(UNARY_MODEL, tensors, (1,), request_id)


def encode_stream(tensors: Iterable[Tensor], request_id: str = "") -> service_pb2.ModelInferRequest:
    """A request to the decoupled model, which has no batch axis: shapes are (n,)."""
    return _encode(STREAM_MODEL, tensors, (), request_id)


def encode_stop(request_id: str) -> service_pb2.ModelInferRequest:
    """What ends the stream that was sent with this id."""
    tensors = (Tensor("text_input", "BYTES", ("",)), Tensor("cancel", "BOOL", (True,)))
    return _encode(STREAM_MODEL, tensors, (), request_id)


def decode_unary(response: service_pb2.ModelInferResponse) -> Completion:
    """The completion in an answer; raises ServerError when there is none."""
    return Completion.from_outputs(_decode(response))


def decode_stream(response: service_pb2.ModelInferResponse) -> tuple[Chunk, ...]:
    """The chunks in an answer, none when it only marks the end; raises ServerError."""
    return Chunk.all_from_outputs(_decode(response)) if response.outputs else ()


def _encode(
    model: str, tensors: Iterable[Tensor], batch: tuple[int, ...], request_id: str
) -> service_pb2.ModelInferRequest:
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for tensor in tensors:
        shape = (*batch, len(tensor.values))
        request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        raw = b"".join(_pack(tensor.datatype, value) for value in tensor.values)
        request.raw_input_contents.append(raw)
    return request


def _pack(datatype: str, value: Output) -> bytes:
    if isinstance(value, str):
        data = value.encode()
        return struct.pack("<I", len(data)) + data
    return struct.pack(_FORMATS[datatype], value)


def _decode(response: service_pb2.ModelInferResponse) -> dict[str, list[Output]]:
    try:
        return {
            output.name: _unpack(output.datatype, raw)
            for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
        }
    except (KeyError, ValueError, struct.error) as error:
        raise malformed(error) from None


def _unpack(datatype: str, raw: bytes) -> list[Output]:
    if datatype != "BYTES":
        return [value for (value,) in struct.iter_unpack(_FORMATS[datatype], raw)]
    values: list[Output] = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        if len(raw) < 4 + length:
            raise ValueError(f"a text of {length} bytes came in {len(raw) - 4}")
        values.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return values
