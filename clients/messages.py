"""What a caller gives and gets: Settings, Completion, Chunk.

Comes in: the server's outputs by name, as either transport decoded them. Goes out: frozen
dataclasses. Knows nothing of tensors or connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

from clients.errors import malformed

if TYPE_CHECKING:
    from collections.abc import Sequence

Output = str | int | float | bool


class Settings(TypedDict, total=False):
    """Keyword arguments of every call; what is left out or None, the server decides."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[int, float] | str | None
    seed: int | None
    suffix: str | None
    stop: str | Sequence[str] | None
    stop_at: Literal["none", "line", "block", "function"] | None
    truncate: Literal["none", "left"] | None
    ignore_eos: bool | None
    priority: int | None
    timeout_ms: int | None
    user: str | None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer; `finish_reason` is "stop", "length" or "timeout"."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Output]) -> Completion:
        """Raises ServerError when an output is missing or of another type."""
        return cls(
            text=_text(outputs, "text_output"),
            finish_reason=_text(outputs, "finish_reason"),
            prompt_tokens=_count(outputs, "prompt_tokens"),
            completion_tokens=_count(outputs, "completion_tokens"),
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of a streamed answer, whole UTF-8; only the last one has the rest."""

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Output]) -> Chunk:
        """Raises ServerError when an output is missing or of another type."""
        if not _text(outputs, "finish_reason"):
            return cls(_text(outputs, "text_output"))
        last = Completion.from_outputs(outputs)
        return cls(last.text, last.finish_reason, last.prompt_tokens, last.completion_tokens)

    @property
    def is_last(self) -> bool:
        """Whether the answer is whole with this chunk."""
        return self.finish_reason is not None


def _text(outputs: Mapping[str, Output], name: str) -> str:
    value = outputs.get(name)
    if not isinstance(value, str):
        raise malformed(f"{name} is {value!r} instead of a text")
    return value


def _count(outputs: Mapping[str, Output], name: str) -> int:
    value = outputs.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(f"{name} is {value!r} instead of a count")
    return value
