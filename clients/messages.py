"""What a caller gives and gets: Settings, Completion, Chunk.

Comes in: the server's outputs by name, as either transport decoded them. Goes out: frozen
dataclasses. Knows nothing of tensors or connections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict

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
    logprobs: int | None
    priority: int | None
    timeout_ms: int | None
    user: str | None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability in nats; `text` shows bytes that are no whole UTF-8 as U+FFFD.

    `top` holds the likeliest tokens of the same place, likeliest first, themselves without `top`.
    """

    id: int
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer; `finish_reason` is "stop", "length" or "timeout".

    `logprobs` has one entry for each token when the request asked for them.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Output]) -> Completion:
        """Raises ServerError when an output is missing or of another type."""
        return cls(
            text=_text(outputs, "text_output"),
            finish_reason=_text(outputs, "finish_reason"),
            prompt_tokens=_count(outputs, "prompt_tokens"),
            completion_tokens=_count(outputs, "completion_tokens"),
            logprobs=_logprobs(outputs),
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of a streamed answer, whole UTF-8; only the last one has the counts."""

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprobs: tuple[TokenLogprob, ...] = ()

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, Output]) -> Chunk:
        """Raises ServerError when an output is missing or of another type."""
        if not _text(outputs, "finish_reason"):
            return cls(_text(outputs, "text_output"), logprobs=_logprobs(outputs))
        last = Completion.from_outputs(outputs)
        return cls(
            last.text,
            last.finish_reason,
            last.prompt_tokens,
            last.completion_tokens,
            last.logprobs,
        )

    @property
    def is_last(self) -> bool:
        """Whether the answer is whole with this chunk."""
        return self.finish_reason is not None


def _text(outputs: Mapping[str, Output], name: str) -> str:
    value = outputs.get(name)
    if not isinstance(value, str):
        raise malformed(f"{name} is {value!r} instead of a text")
    return value


def _logprobs(outputs: Mapping[str, Output]) -> tuple[TokenLogprob, ...]:
    """Of the JSON array in `output_logprobs`, which is empty or missing when there are none."""
    text = outputs.get("output_logprobs", "")
    if not text:
        return ()
    try:
        return tuple(_logprob(**one) for one in json.loads(str(text)))
    except (ValueError, TypeError) as error:
        raise malformed(f"output_logprobs is {text!r:.80} ({error})") from None


def _logprob(
    id: int, text: str, logprob: float, top: Sequence[Mapping[str, Any]] = ()
) -> TokenLogprob:
    return TokenLogprob(id, text, logprob, tuple(_logprob(**one) for one in top))


def _count(outputs: Mapping[str, Output], name: str) -> int:
    value = outputs.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(f"{name} is {value!r} instead of a count")
    return value
