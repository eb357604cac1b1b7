"""A request's JSON, read strictly: what isn't an option, or isn't its type, is refused by name.

Comes in: a body's bytes. Goes out: Options, or an InvalidRequest that names the field, its value
and the mend. The ranges are the engine's (tests hold them together); here they stand in the
description too. Knows nothing of who asks.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.config import JsonDict

from gateway.errors import InvalidRequest

MAX_STOPS = 16
MAX_STOP_BYTES = 256
MAX_NAME_CHARS = 128  # of a model, a session, a user
MAX_SHOWN = 60
MAX_BIASES = 300

TokenId = Annotated[str, Field(pattern="^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARS)]
_STOP_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": MAX_STOP_BYTES},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_STOP_BYTES},
            "maxItems": MAX_STOPS,
        },
        {"type": "null"},
    ]
}


class Options(BaseModel):
    """What both forms take; null is as good as left out."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    prompt: str = Field(description="The text to go on from, or before the cursor.")
    model: str | None = Field(
        None,
        max_length=MAX_NAME_CHARS,
        description="One of /v1/models; none or empty: the default.",
    )
    suffix: str | None = Field(None, description="The text after the cursor: fill in between.")
    max_tokens: int | None = Field(None, ge=1, le=1 << 20, description="At most so many tokens.")
    temperature: float | None = Field(None, ge=0, le=100, description="0 takes the likeliest.")
    top_p: float | None = Field(None, gt=0, le=1, description="Draw among this probability.")
    n: int | None = Field(None, ge=1, le=16, description="How many texts.")
    best_of: int | None = Field(
        None, ge=1, le=16, description="The best n of so many, by mean log-probability."
    )
    stop: tuple[str, ...] | None = Field(
        None,
        description=f"End before one of these: up to {MAX_STOPS} of {MAX_STOP_BYTES} bytes.",
        json_schema_extra=_STOP_SCHEMA,
    )
    presence_penalty: float | None = Field(None, ge=-2, le=2, description="0 is off.")
    frequency_penalty: float | None = Field(None, ge=-2, le=2, description="0 is off.")
    logit_bias: dict[TokenId, Bias] | None = Field(
        None, max_length=MAX_BIASES, description="Added to logits, by token id."
    )
    seed: int | None = Field(
        None, ge=0, lt=1 << 63, description="The same seed gives the same text."
    )
    user: Name | None = Field(None, description="Your own user's name, better its hash.")
    # Beyond OpenAI's.
    top_k: int | None = Field(None, ge=0, lt=1 << 31, description="Draw among the k likeliest.")
    min_p: float | None = Field(None, ge=0, le=1, description="Of the likeliest's share at least.")
    repetition_penalty: float | None = Field(None, ge=0.01, le=10, description="1 is off.")
    stop_at: Literal["none", "line", "block", "function"] | None = Field(
        None, description="End with the line, block or function at the cursor."
    )
    truncate: Literal["none", "left"] | None = Field(
        None, description="`left` cuts a prompt that is too long."
    )
    token_healing: bool | None = Field(None, description="The prompt may end inside a word.")
    ignore_eos: bool | None = Field(None, description="Go on after the end of text.")
    priority: int | None = Field(
        None, ge=-8, le=8, description="Lower is served later; above 0 is for admins."
    )
    timeout: float | None = Field(None, gt=0, le=3600, description="Seconds for the whole answer.")
    timeout_ms: int | None = Field(None, ge=1, le=3_600_000, description="The same in ms.")
    session: Name | None = Field(
        None, description="Of one typing person: a newer request ends the older one."
    )

    @field_validator("prompt", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_text(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        if any(not isinstance(one, str) for one in value):
            raise ValueError("token ids aren't read here: send the prompt as text")
        if len(value) != 1:
            raise ValueError(f"it holds {len(value)} texts: send one request for each")
        return value[0]

    @field_validator("stop", mode="before")
    @classmethod
    def _texts(cls, value: object) -> object:
        texts = (value,) if isinstance(value, str) else value
        if texts is None:
            return None
        if not isinstance(texts, list | tuple) or any(not isinstance(one, str) for one in texts):
            raise ValueError("give a text or a list of texts")
        if len(texts) > MAX_STOPS:
            raise ValueError(f"{len(texts)} texts are more than {MAX_STOPS}: send fewer")
        for text in texts:
            if not 0 < len(text.encode()) <= MAX_STOP_BYTES:
                raise ValueError(
                    f"a text has {len(text.encode())} bytes, allowed is 1 to {MAX_STOP_BYTES}"
                )
        return tuple(texts)


Body = TypeVar("Body", bound=BaseModel)


def read_body(kind: type[Body], body: bytes) -> Body:
    """Raises InvalidRequest for the first thing that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error.errors(include_url=False)[0], tuple(kind.model_fields)) from None


def read_values(kind: type[Body], values: Mapping[str, object]) -> Body:
    """The same of values that were read already."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise refusal(error.errors(include_url=False)[0], tuple(kind.model_fields)) from None


def refusal(detail: Mapping[str, Any], names: tuple[str, ...]) -> InvalidRequest:
    """What a caller is told of one of pydantic's errors."""
    place = [str(part) for part in detail["loc"] if part != "body"]
    param = place[0] if place else None
    shown = ".".join(place)[:MAX_SHOWN]
    why = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "json_invalid":
        return InvalidRequest(f"the body isn't JSON that can be read ({why}): send one object")
    if param is None:
        return InvalidRequest(f"the body is no JSON object: {why}")
    if detail["type"] == "extra_forbidden":
        known = f", the options are {', '.join(names)}" if len(place) == 1 and names else ""
        return InvalidRequest(
            f"there is no option {shown!r}{known}: leave it out",
            param=param[:MAX_SHOWN],
            code="unsupported_option",
        )
    if detail["type"] == "missing":
        return InvalidRequest(f"{shown} is missing: send it", param=param)
    seen = detail.get("input")
    value = f"of type {type(seen).__name__}" if isinstance(seen, list | dict) else shorten(seen)
    return InvalidRequest(f"{shown} is {value}: {why}", param=param)


def shorten(value: object) -> str:
    """A value as it is shown: one line of ASCII."""
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
