"""llama.cpp's form of filling in (POST /infill), as llama.vscode and llama.vim ask for it.

Comes in: bodies, flights. Goes out: the common Options, and bytes. Its texts from other files stand
before the prefix, where truncate=left cuts first; `n_indent` ends the text with its block; the two
times together are the deadline. Greedy unless a temperature is given. Knows nothing of HTTP.
"""

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from gateway.api.options import Options, read_values
from gateway.flights import Flight
from gateway.messages import Answer

DEFAULTS = {"temperature": 0.0, "truncate": "left"}
_EXAMPLES: list[JsonValue] = [
    {"input_prefix": "def add(a, b):\n", "prompt": "    return ", "input_suffix": "\n"}
]
_STOP_TYPES = {"stop": "eos", "length": "limit", "timeout": "limit"}
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)


class Extra(BaseModel):
    """A text from another file."""

    model_config = _STRICT

    text: str
    filename: str = ""
    time: int | None = None  # llama.vim's, of when it was taken


class InfillBody(BaseModel):
    """The body of POST /infill."""

    model_config = {**_STRICT, "json_schema_extra": {"examples": _EXAMPLES}}

    input_prefix: str = Field("", description="The text before the cursor's line.")
    prompt: str = Field("", description="The cursor's line up to it.")
    input_suffix: str = Field("", description="The text after the cursor.")
    input_extra: list[Extra] = Field([], max_length=256, description="Texts from elsewhere.")
    n_predict: int = Field(64, ge=0, le=1 << 20, description="At most so many tokens; 0: nothing.")
    n_indent: int | None = Field(None, ge=0, description="Above 0 the text ends with its block.")
    stop: list[str] | None = Field(None, description="End before one of these.")
    temperature: float | None = Field(None, ge=0, le=100)
    top_k: int | None = Field(None, ge=0, lt=1 << 31)
    top_p: float | None = Field(None, gt=0, le=1)
    min_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=0, lt=1 << 63)
    stream: Literal[False] = False
    cache_prompt: Literal[True] = Field(True, description="It always is.")
    samplers: list[Literal["top_k", "top_p", "min_p", "temperature", "infill"]] | None = None
    t_max_prompt_ms: int | None = Field(None, ge=1, le=3_600_000)
    t_max_predict_ms: int | None = Field(None, ge=1, le=3_600_000)
    response_fields: list[str] | None = Field(None, max_length=64, description="These alone.")
    model: str | None = Field(None, max_length=128)


def options_of(body: InfillBody) -> Options:
    """The same in the common options' words; raises InvalidRequest."""
    before = "".join(f"# {one.filename}\n{one.text}\n" for one in body.input_extra)
    times = [one for one in (body.t_max_prompt_ms, body.t_max_predict_ms) if one is not None]
    names = {"model", "stop", "temperature", "top_k", "top_p", "min_p", "seed"}
    values = {
        **body.model_dump(include=names),
        "prompt": before + body.input_prefix + body.prompt,
        "suffix": body.input_suffix,
        "max_tokens": body.n_predict,
        "stop_at": "block" if body.n_indent else None,
        "timeout_ms": sum(times) or None,
    }
    return read_values(Options, values)


class InfillWriter:
    """Writes one answer."""

    def __init__(self, body: InfillBody) -> None:
        self._fields = body.response_fields

    def whole(self, flight: Flight, answer: Answer) -> bytes:
        """The body of an answer."""
        assert flight.served is not None
        usage = answer.usage
        return self.told(
            {
                "content": answer.texts[0],
                "stop": True,
                "stop_type": _STOP_TYPES[answer.finish_reasons[0]],
                "model": flight.served.model,
                "tokens_predicted": usage.completion_tokens,
                "tokens_evaluated": usage.prompt_tokens,
                "timings": {
                    "prompt_n": usage.prompt_tokens,
                    "predicted_n": usage.completion_tokens,
                },
            }
        )

    def told(self, answer: dict[str, Any]) -> bytes:
        """The fields that were asked for, "a/b" for those inside others; else all."""
        if self._fields is None:
            return json.dumps(answer).encode()
        flat = {**answer, **{f"timings/{name}": one for name, one in answer["timings"].items()}}
        return json.dumps({name: flat[name] for name in self._fields if name in flat}).encode()

    def nothing(self) -> bytes:
        """The answer to n_predict of 0, by which editors warm up a cache that needs none."""
        counts = {"tokens_predicted": 0, "tokens_evaluated": 0, "timings": {}}
        return self.told({"content": "", "stop": True, "stop_type": "limit", **counts})
