"""Triton's gRPC messages to and from plain values, for playback."""

import struct
from collections.abc import Iterable
from typing import Any

from tritonclient.grpc import service_pb2

FORMATS = {"INT32": "<i", "INT64": "<q", "FP32": "<f", "BOOL": "<?"}


def response_of(outputs: dict[str, list[Any]], rows: int | None = None) -> Any:
    """A response with these outputs; `rows` is the batch axis, None where there is none."""
    response = service_pb2.ModelInferResponse(model_name="completion")
    for name, values in outputs.items():
        shape = [len(values)] if rows is None else [rows, len(values)]
        datatype = "BYTES" if isinstance(values[0], str) else "INT32"
        response.outputs.add(name=name, datatype=datatype, shape=shape)
        response.raw_output_contents.append(b"".join(map(_pack, values)))
    return response


def _pack(value: str | int) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", len(value.encode())) + value.encode()
    return struct.pack("<i", value)


def read_request(
    request: Any, context: Any
) -> tuple[dict[str, Any], str, Iterable[tuple[str, Any]]]:
    """The inputs, the id and the metadata."""
    inputs = {
        tensor.name: (tensor.datatype, list(tensor.shape), _read_values(tensor.datatype, raw))
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }
    return inputs, request.id, context.invocation_metadata()


def _read_values(datatype: str, raw: bytes) -> list[Any]:
    if datatype != "BYTES":
        return [value for (value,) in struct.iter_unpack(FORMATS[datatype], raw)]
    values = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        values.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return values
