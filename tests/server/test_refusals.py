"""Bad input against the running server: one clear sentence, the right status, and life goes on."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from running import RunningServer
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

DTYPES = {"INT32": np.int32, "INT64": np.int64, "FP32": np.float32, "BYTES": np.object_}
GOOD = {"text_input": ("BYTES", [b"def f("])}

# What is sent beside a good prompt (or in its place), and words that the answer must hold.
REFUSALS: dict[str, tuple[dict[str, tuple[str, list[Any]]], list[str]]] = {
    "empty prompt": ({"text_input": ("BYTES", [b""])}, ["text_input is empty", "at least one"]),
    "long prompt": (
        {"text_input": ("BYTES", [b"a b " * 1000])},
        ["2001 tokens", "at most 512", "truncate=left"],
    ),
    "1 MB prompt": (
        {"text_input": ("BYTES", [b"x" * 1_000_000])},
        ["1000000 bytes", "at most 512"],
    ),
    "invalid UTF-8": ({"text_input": ("BYTES", [b"ab\xff"])}, ["not UTF-8", "0xff", "position 2"]),
    "NUL": ({"text_input": ("BYTES", [b"a\0b"])}, ["NUL", "at 1"]),
    "max_tokens 0": ({"max_tokens": ("INT32", [0])}, ["max_tokens is 0", "at least 1"]),
    "max_tokens negative": ({"max_tokens": ("INT32", [-5])}, ["max_tokens is -5", "at least 1"]),
    "max_tokens beyond the context": (
        {"max_tokens": ("INT32", [513])},
        ["max_tokens is 513", "context is 512"],
    ),
    "temperature negative": ({"temperature": ("FP32", [-0.5])}, ["temperature is -0.5", "0 to"]),
    "temperature NaN": ({"temperature": ("FP32", [float("nan")])}, ["temperature is nan", "0 to"]),
    "temperature infinite": ({"temperature": ("FP32", [float("inf")])}, ["temperature is inf"]),
    "top_p 0": ({"top_p": ("FP32", [0.0])}, ["top_p is 0", "above 0 and up to 1"]),
    "top_p above 1": ({"top_p": ("FP32", [1.5])}, ["top_p is 1.5", "above 0 and up to 1"]),
    "top_k negative": ({"top_k": ("INT32", [-1])}, ["top_k is -1", "at least 0"]),
    "min_p above 1": ({"min_p": ("FP32", [2.0])}, ["min_p is 2", "0 to 1"]),
    "repetition_penalty 0": ({"repetition_penalty": ("FP32", [0.0])}, ["repetition_penalty is 0"]),
    "logit_bias no JSON": ({"logit_bias": ("BYTES", [b"{"])}, ["logit_bias is '{'", "JSON object"]),
    "logit_bias too large": (
        {"logit_bias": ("BYTES", [b'{"7": 101}'])},
        ["logit_bias of token 7 is 101", "-100 to 100"],
    ),
    "logit_bias of no token": (
        {"logit_bias": ("BYTES", [b'{"99999": 1}'])},
        ["logit_bias names token 99999", "vocabulary"],
    ),
    "seed negative": ({"seed": ("INT64", [-1])}, ["seed is -1", "at least 0"]),
    "stop too long": ({"stop": ("BYTES", [b"x" * 300])}, ["300 bytes", "256"]),
    "too many stops": ({"stop": ("BYTES", [b"x"] * 17)}, ["17 strings", "16"]),
    "stop not UTF-8": ({"stop": ("BYTES", [b"\xfe"])}, ["stop is not UTF-8", "0xfe"]),
    "unknown truncate": ({"truncate": ("BYTES", [b"right"])}, ["truncate is 'right'", "'left'"]),
    "unknown stop_at": (
        {"stop_at": ("BYTES", [b"paragraph"])},
        ["stop_at is 'paragraph'", "'line', 'block' and 'function'"],
    ),
    "suffix with NUL": ({"suffix": ("BYTES", [b"a\0"])}, ["suffix holds a NUL", "at 1"]),
    "suffix not UTF-8": ({"suffix": ("BYTES", [b"\xff"])}, ["suffix is not UTF-8", "0xff"]),
    "suffix of the wrong type": ({"suffix": ("INT32", [5])}, ["suffix", "INT32"]),
    "stop of the wrong type": ({"stop": ("INT32", [5])}, ["stop", "INT32"]),
    "max_tokens of the wrong type": ({"max_tokens": ("FP32", [5.0])}, ["max_tokens", "FP32"]),
}


@pytest.fixture(scope="module")
def stub(server: RunningServer) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    """The bare gRPC service: what is wrong is sent as it is, with no client's own checks."""
    with grpc.insecure_channel(f"localhost:{server.grpc_port}") as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def build_request(
    model: str, tensors: dict[str, tuple[str, list[Any]]], shape: list[int] | None = None
) -> service_pb2.ModelInferRequest:
    """One request with a row of values a tensor; `completion` has a batch axis."""
    request = service_pb2.ModelInferRequest(model_name=model)
    batch_axis = [1] if model == "completion" else []
    for name, (dtype, values) in tensors.items():
        request.inputs.add(name=name, datatype=dtype, shape=shape or [*batch_axis, len(values)])
        array: NDArray[Any] = np.array(values, DTYPES[dtype])
        is_text = dtype == "BYTES" and values
        raw = serialize_byte_tensor(array).item() if is_text else array.tobytes()
        request.raw_input_contents.append(raw)
    return request


def send(stub: Any, model: str, request: service_pb2.ModelInferRequest) -> tuple[str, str]:
    """Send to a door; ("OK" or the gRPC status, the message)."""
    try:
        if model == "completion":
            stub.ModelInfer(request, timeout=30)
            return "OK", ""
        message = [one.error_message for one in stub.ModelStreamInfer(iter([request]), timeout=30)]
        return ("STREAM", message[-1]) if message[-1] else ("OK", "")
    except grpc.RpcError as error:
        return error.code().name, error.details()  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", ["completion", "completion_stream"])
@pytest.mark.parametrize(("tensors", "words"), REFUSALS.values(), ids=REFUSALS)
def test_bad_input_is_refused_in_one_sentence(
    stub: Any, model: str, tensors: dict[str, tuple[str, list[Any]]], words: list[str]
) -> None:
    status, message = send(stub, model, build_request(model, {**GOOD, **tensors}))

    assert status in ("INVALID_ARGUMENT", "STREAM"), message  # a stream carries errors as text
    assert all(word in message for word in words), message
    assert "Traceback" not in message
    assert "\n" not in message
    assert send(stub, model, build_request(model, GOOD))[0] == "OK"


@pytest.mark.parametrize("model", ["completion", "completion_stream"])
def test_missing_prompt_is_refused_by_name(stub: Any, model: str) -> None:
    request = build_request(model, {"max_tokens": ("INT32", [4])})

    _, message = send(stub, model, request)

    assert "text_input is missing" in message


@pytest.mark.parametrize("model", ["completion", "completion_stream"])
def test_unknown_setting_is_refused_by_name(stub: Any, model: str) -> None:
    request = build_request(model, GOOD)
    request.parameters["max_token"].int64_param = 5

    _, message = send(stub, model, request)

    assert "there is no setting 'max_token'" in message


@pytest.mark.parametrize("model", ["completion", "completion_stream"])
def test_unknown_input_is_refused(stub: Any, model: str) -> None:
    status, message = send(stub, model, build_request(model, {**GOOD, "heat": ("FP32", [1.0])}))

    assert status in ("INVALID_ARGUMENT", "STREAM")
    assert "heat" in message


@pytest.mark.parametrize("shape", [[1, 1, 1], [0, 1], [65, 1]], ids=str)
def test_wrong_shape_is_refused(stub: Any, shape: list[int]) -> None:
    count = int(np.prod(shape))
    request = build_request("completion", {"text_input": ("BYTES", [b"a"] * count)}, shape)

    status, message = send(stub, "completion", request)

    assert status == "INVALID_ARGUMENT", message
    assert send(stub, "completion", build_request("completion", GOOD))[0] == "OK"


@pytest.mark.parametrize("ids", [[[99_999]], [[-1]], [[]]], ids=["beyond", "negative", "none"])
def test_token_door_refuses_ids_outside_the_vocabulary(stub: Any, ids: list[list[int]]) -> None:
    request = service_pb2.ModelInferRequest(model_name="gpt")
    request.inputs.add(name="input_ids", datatype="INT32", shape=[1, len(ids[0])])
    request.raw_input_contents.append(np.array(ids, np.int32).tobytes())

    with pytest.raises(grpc.RpcError) as error:
        stub.ModelInfer(request, timeout=30)

    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "Traceback" not in error.value.details()


@pytest.mark.parametrize("model", ["completion", "completion_stream"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text_input": ""}, "text_input is empty"),
        ({"text_input": "a", "stop": 5}, "non-string"),
        ({"text_input": 5}, "non-string"),
        ({"text_input": "a", "suffix": 5}, "non-string"),
        ({"text_input": "a", "stop_at": "paragraph"}, "stop_at is 'paragraph'"),
        ({"text_input": "a", "top_p": "high"}, "top_p"),
        ({"text_input": "a", "max_token": 5}, "no setting 'max_token'"),
        ({"max_tokens": 5}, "text_input is missing"),
    ],
    ids=[
        "empty",
        "stop type",
        "prompt type",
        "suffix type",
        "stop_at",
        "number type",
        "misspelt",
        "missing",
    ],
)
def test_http_refuses_in_one_sentence(
    server: RunningServer, model: str, body: dict[str, object], words: str
) -> None:
    url = f"http://localhost:{server.http_port}/v2/models/{model}/generate"
    data = json.dumps({"stream": False, **body} if model != "completion" else body).encode()

    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(url, data, timeout=30)

    message = json.load(error.value)["error"]
    error.value.close()
    assert words in message or "Unable to parse" in message, message
    assert "Traceback" not in message
