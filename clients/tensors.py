"""A prompt and its settings as named tensors, checked: what both wire formats are written from.

Comes in: what the caller gave. Goes out: tensors that surely fit their data type. The ranges of
the settings are the server's to judge; only what the wire would spoil is refused here (Triton
wraps an INT32 that is too large without a word). Knows nothing of gRPC or HTTP.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real

from clients.errors import InvalidRequest
from clients.messages import Output

# The two models of the server that people use.
UNARY_MODEL = "completion"
STREAM_MODEL = "completion_stream"
# The one behind both, which a loaded version of the language model is a version of.
ENGINE_MODEL = "gpt"

# Optional inputs of both, name to Triton data type.
SETTINGS = {
    "max_tokens": "INT32",
    "temperature": "FP32",
    "top_k": "INT32",
    "top_p": "FP32",
    "min_p": "FP32",
    "repetition_penalty": "FP32",
    "frequency_penalty": "FP32",
    "presence_penalty": "FP32",
    "logit_bias": "BYTES",
    "seed": "INT64",
    "n": "INT32",
    "best_of": "INT32",
    "stop": "BYTES",
    "stop_at": "BYTES",
    "truncate": "BYTES",
    "token_healing": "BOOL",
    "ignore_eos": "BOOL",
    "logprobs": "INT32",
    "priority": "INT32",
    "timeout_ms": "INT32",
    "user": "BYTES",
    "suffix": "BYTES",
}
_LISTS = {"stop"}
_INTEGER_BITS = {"INT32": 32, "INT64": 64}
_MAX_FP32 = (2 - 2**-23) * 2.0**127  # IEEE 754 binary32


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of one request, a row of n values; `is_list` if n may differ from 1."""

    name: str
    datatype: str
    values: tuple[Output, ...]
    is_list: bool = False


def request_tensors(prompt: str, settings: Mapping[str, object]) -> tuple[Tensor, ...]:
    """The inputs of a request: the prompt and the settings that aren't None.

    Raises InvalidRequest, naming the value, for a lone surrogate, a setting that doesn't exist, or
    a value that its data type can't carry.
    """
    if unknown := sorted(settings.keys() - SETTINGS.keys()):
        raise InvalidRequest(
            f"there is no setting {', '.join(unknown)}: the settings are {', '.join(SETTINGS)}"
        )
    tensors = [Tensor("text_input", "BYTES", (_checked("prompt", "BYTES", prompt),))]
    for name, datatype in SETTINGS.items():
        is_list = name in _LISTS
        value = _bias_text(settings.get(name)) if name == "logit_bias" else settings.get(name)
        if values := _values(value, is_list=is_list):
            checked = tuple(_checked(name, datatype, value) for value in values)
            tensors.append(Tensor(name, datatype, checked, is_list))
    return tuple(tensors)


def stream_tensors(
    prompt: str, settings: Mapping[str, object], in_pieces: bool
) -> tuple[Tensor, ...]:
    """The same for STREAM_MODEL, which answers in pieces or with one response at the end."""
    return (*request_tensors(prompt, settings), Tensor("stream", "BOOL", (in_pieces,)))


def _bias_text(value: object) -> object:
    """The JSON object that the server reads; text is taken as written."""
    if not isinstance(value, Mapping):
        return value
    return json.dumps({str(key): _real("logit_bias", bias) for key, bias in value.items()})


def _values(value: object, *, is_list: bool) -> tuple[object, ...]:
    if value is None:
        return ()
    if is_list and isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return tuple(value)
    return (value,)


def _checked(name: str, datatype: str, value: object) -> Output:
    if datatype == "BYTES":
        return _text(name, value)
    if datatype == "BOOL":
        if isinstance(value, bool):
            return value
        raise InvalidRequest(f"{name} is {value!r}: give True or False")
    if datatype == "FP32":
        return _real(name, value)
    return _integer(name, value, _INTEGER_BITS[datatype])


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is of type {type(value).__name__}: give a str")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{name} has a lone surrogate, U+{ord(value[error.start]):04X}, at character "
            f"{error.start}: it has no UTF-8, leave it out"
        ) from None
    return value


def _real(name: str, value: object) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise InvalidRequest(f"{name} is {value!r}: give a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= _MAX_FP32:  # NaN isn't either
        raise InvalidRequest(f"{name} is {number}: give a number that a 32-bit float holds")
    return number


def _integer(name: str, value: object, bits: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise InvalidRequest(f"{name} is {value!r}: give an integer")
    limit = 1 << (bits - 1)
    if not -limit <= int(value) < limit:
        raise InvalidRequest(f"{name} is {value}: at most {limit - 1} fits into {bits} bits")
    return int(value)
