"""The routes as one document: backends with their weights, checked whole.

Comes in: JSON's values, of a file, a request or the database. Goes out: Document, or InvalidRequest
that names the field. Knows nothing of who is routed where.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, Strict, StringConstraints, TypeAdapter, ValidationError

from gateway.errors import InvalidRequest

MAX_BACKENDS = 64
UNKNOWN = "unknown"  # what neither the document nor the backend says
DEFAULT_MODEL = "nanotriton"

_CLOSED = ConfigDict(extra="forbid")
_URL = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Label = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._/+-]{0,126})?$")]
Weight = Annotated[float, Strict(), Field(ge=0, le=1e6, allow_inf_nan=False)]
Share = Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Backend:
    """A Triton server: its gRPC door, its part of the traffic, what it serves.

    `model` is the name that callers ask for. `version` and `precision` given here overrule what the
    backend tells; `metrics` is its metrics page's HOST:PORT, where it tells the precision. `shadow`
    is the share of requests answered elsewhere that are sent to it as well.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    name: Name
    url: str
    weight: Weight = 1.0
    model: Label = ""
    version: Label = ""
    precision: Label = ""
    metrics: str = ""
    shadow: Share = 0.0

    def __post_init__(self) -> None:
        for field, value in (("url", self.url), ("metrics", self.metrics)):
            if (value or field == "url") and not _is_address(value):
                raise ValueError(f"{field} is {value!r:.80}: give HOST:PORT, such as triton:8001")

    @property
    def aliases(self) -> tuple[str, str, str]:
        """What a request's `model` may be: MODEL, MODEL@VERSION and MODEL:BACKEND."""
        return self.model, f"{self.model}@{self.version}", f"{self.model}:{self.name}"


@dataclass(frozen=True, slots=True)
class Document:
    """All routes; `version` counts the changes, `salt` decides who gets which backend."""

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    backends: Annotated[tuple[Backend, ...], Field(min_length=1, max_length=MAX_BACKENDS)]
    salt: Annotated[str, StringConstraints(pattern=r"^[ -~]{0,64}$")] = "nanotriton"
    version: Annotated[int, Strict(), Field(ge=0, lt=1 << 31)] = 0

    def __post_init__(self) -> None:
        names = [one.name for one in self.backends]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"backends have the name {twice[0]!r} twice: give each its own")
        if not any(one.weight for one in self.backends):
            raise ValueError("no backend has a weight above 0: give at least one")


@dataclass(frozen=True, slots=True)
class Told:
    """What a backend tells of itself; "" where it doesn't."""

    version: str
    precision: str = ""


DOCUMENT = TypeAdapter(Document)


def read_document(value: Any) -> Document:
    """Raises InvalidRequest, naming the field, for anything that isn't a whole document."""
    try:
        return DOCUMENT.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        seen = "" if isinstance(first["input"], dict | list) else f" is {first['input']!r:.80}"
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(
            f"of the routes {place or 'the document'}{seen}: {reason}",
            param=place or None,
            code="invalid_routes",
        ) from None


def document_json(document: Document) -> dict[str, Any]:
    """The document as JSON's values, with every default written out."""
    told: dict[str, Any] = DOCUMENT.dump_python(document, mode="json")
    return told


def _is_address(text: str) -> bool:
    found = _URL.fullmatch(text)
    return found is not None and 0 < int(found[1]) < 1 << 16
