"""What a client may ask for: `Settings`, validated, and `Request`, one prompt with its settings.

Comes in: tensors or a mapping. Goes out: frozen values that the rest of the engine trusts. Knows
nothing of slots, text or Triton.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanotriton.contract import SETTINGS, SUFFIX
from nanotriton.engine.bias import LogitBias, check_logit_bias, parse_logit_bias
from nanotriton.engine.stops import STOP_AT
from nanotriton.errors import InvalidRequest

MAX_TEXTS = 16
MAX_STOPS = 16
MAX_STOP_BYTES = 256
MAX_USER_BYTES = 256
TRUNCATE = ("none", "left")
CHOICES = {"stop_at": STOP_AT, "truncate": TRUNCATE}

# name -> (least, most or None, what the value means); both ends are allowed.
RANGES: dict[str, tuple[float, float | None, str]] = {
    "max_tokens": (1, None, "tokens to generate at most"),
    "temperature": (0, 100, "0 is greedy"),
    "top_k": (0, None, "0 considers every token"),
    "min_p": (0, 1, "0 is off"),
    "repetition_penalty": (0.01, 10, "1 is off, above 1 repeats less"),
    "frequency_penalty": (-2, 2, "0 is off, above 0 repeats less"),
    "presence_penalty": (-2, 2, "0 is off, above 0 repeats less"),
    "seed": (0, None, "leave it out for a random one"),
    "n": (1, MAX_TEXTS, "how many texts to return"),
    "best_of": (1, MAX_TEXTS, "how many texts to choose the best n from; leave it out for n"),
    "logprobs": (0, 20, "how many of the likeliest tokens to show; leave it out for none"),
    "priority": (-8, 8, "higher goes first"),
    "timeout_ms": (1, None, "leave it out to wait as long as it takes"),
}

# What Triton and its clients put beside the tensors on their own, and forwarded headers (x-...).
TRITON_PARAMETERS = re.compile(
    r"x-|triton_|sequence_|(priority|timeout|headers|binary_data_output|traceparent|tracestate)$"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to complete a prompt; raises InvalidRequest for a value outside its range.

    The defaults are greedy. `top_p` and `min_p` apply after the temperature, in the order top_k,
    top_p, min_p. `n` texts are returned, the best of `best_of`, or if that is None all that are
    written (see `siblings`). `logit_bias` holds pairs of a token id and what is added to its logit;
    it comes as the JSON object that OpenAI's API has. `stop_at` ends the text with its line, block
    or function (see `blocks`), and `truncate="left"` keeps the end of a prompt that is too long.
    With `token_healing` a prompt may end inside a token (see `nanotriton.healing`).
    `user` names whose request it is, for an engine that keeps users apart.
    """

    max_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: LogitBias = ()
    seed: int | None = None
    n: int = 1
    best_of: int | None = None
    stop: tuple[str, ...] = ()
    stop_at: str = "none"
    truncate: str = "none"
    token_healing: bool = False
    ignore_eos: bool = False
    logprobs: int | None = None
    priority: int = 0
    timeout_ms: int | None = None
    user: str = ""

    def __post_init__(self) -> None:
        for name, (least, most, meaning) in RANGES.items():
            value = getattr(self, name)
            high = math.inf if most is None else most
            if value is not None and not least <= value <= high:  # NaN is outside too
                allowed = f"at least {least}" if most is None else f"{least} to {most}"
                raise InvalidRequest(f"{name} is {_show(value)}, allowed is {allowed}: {meaning}")
        if not 0.0 < self.top_p <= 1.0:
            raise InvalidRequest(
                f"top_p is {_show(self.top_p)}, allowed is above 0 and up to 1: "
                "1 considers every token"
            )
        if self.num_texts < self.n:
            raise InvalidRequest(
                f"best_of is {self.best_of}, n is {self.n}: write at least as many texts as are "
                "returned"
            )
        check_logit_bias(self.logit_bias)
        for name, choices in CHOICES.items():
            if (choice := getattr(self, name)) not in choices:
                allowed = ", ".join(map(repr, choices[:-1])) + f" and {choices[-1]!r}"
                raise InvalidRequest(f"{name} is {choice!r:.64}, allowed are {allowed}")
        if len(self.user.encode()) > MAX_USER_BYTES:
            raise InvalidRequest(
                f"user has {len(self.user.encode())} bytes, at most {MAX_USER_BYTES} are allowed: "
                "send a shorter name, such as a hash of it"
            )
        if len(self.stop) > MAX_STOPS:
            raise InvalidRequest(
                f"stop has {len(self.stop)} strings, at most {MAX_STOPS} are allowed: send fewer"
            )
        for text in self.stop:
            if not 0 < len(text.encode()) <= MAX_STOP_BYTES:
                raise InvalidRequest(
                    f"a stop string has {len(text.encode())} bytes, allowed is 1 to "
                    f"{MAX_STOP_BYTES}: send a shorter one"
                )

    @property
    def num_texts(self) -> int:
        """Texts that are written, of which `n` are returned."""
        return self.n if self.best_of is None else self.best_of

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, NDArray[Any]], row: int = 0) -> "Settings":
        """Read row `row` of the optional input tensors, each (B, 1), (1,), or (B, n) for stop."""
        values: dict[str, Any] = {}
        for name in SETTINGS.keys() & tensors.keys():
            tensor = tensors[name]
            rows = tensor if tensor.ndim == 2 else tensor.reshape(1, -1)
            if name == "stop":
                values[name] = tuple(text for raw in rows[row] if (text := utf8(raw, name)))
            elif name == "logit_bias":
                values[name] = parse_logit_bias(utf8(rows[row, 0], name))
            elif tensor.dtype == np.object_:
                values[name] = utf8(rows[row, 0], name)
            else:
                values[name] = rows[row, 0].item()
        return cls(**values)

    @classmethod
    def from_message(cls, values: Mapping[str, Any]) -> "Settings":
        """Rebuild settings that crossed the socket as a map."""
        biases = tuple((token, bias) for token, bias in values.get("logit_bias", ()))
        return cls(**{**values, "stop": tuple(values.get("stop", ())), "logit_bias": biases})

    def to_message(self) -> dict[str, Any]:
        """Settings that differ from the defaults, as a map."""
        return {
            item.name: value
            for item in fields(self)
            if (value := getattr(self, item.name)) != item.default
        }


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to complete; `key` is the caller's own and comes back with every event.

    `missing` are bytes that token healing took from the prompt's text: they are written again, as
    a part of the prompt, before the completion begins.
    """

    key: tuple[bytes, int]
    prompt: tuple[int, ...]
    settings: Settings
    missing: bytes = b""


def refuse_unknown(parameters: str) -> None:
    """Raise InvalidRequest for a setting that nobody reads, such as a misspelt one.

    `parameters` is the JSON of a Triton request's parameters: there its HTTP front puts every key
    of a body that is no input of the model.
    """
    unknown = [name for name in json.loads(parameters or "{}") if not TRITON_PARAMETERS.match(name)]
    if unknown:
        raise InvalidRequest(
            f"there is no setting {unknown[0]!r}: allowed are {', '.join((*SETTINGS, SUFFIX))}"
        )


def _show(value: float) -> str:
    """An integer in full, a float32 without digits that it never had."""
    return str(value if isinstance(value, int) else np.float32(value)).removesuffix(".0")


def utf8(raw: bytes | str, name: str) -> str:
    """Decode one string element of the tensor `name`; raises InvalidRequest."""
    if isinstance(raw, str):
        return raw
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{name} is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}"
        ) from None
