"""What a caller gives and gets: Settings, Completion with its Choices, Chunk.

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
Outputs = Mapping[str, "Sequence[Output]"]


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
    n: int | None
    best_of: int | None
    suffix: str | None
    stop: str | Sequence[str] | None
    stop_at: Literal["none", "line", "block", "function"] | None
    truncate: Literal["none", "left"] | None
    token_healing: bool | None
    ignore_eos: bool | None
    logprobs: int | None
    priority: int | None
    timeout_ms: int | None
    user: str | None


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server has loaded: its language model's versions, the one that answers last."""

    model: str
    versions: tuple[str, ...]

    @classmethod
    def of(cls, model: str, versions: Sequence[str]) -> ServerInfo:
        """Raises ServerError when no version is a number, as all of Triton's are."""
        try:
            return cls(model, tuple(sorted(versions, key=int)))
        except ValueError:
            raise malformed(f"the versions are {list(versions)!r:.80}") from None


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token's log-probability in nats; `text` shows bytes that are no whole UTF-8 as U+FFFD.

    The gateway names tokens by their text alone: `id` is None then. `top` holds the likeliest
    tokens of the same place, likeliest first, themselves without `top`.
    """

    id: int | None
    text: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several texts; `finish_reason` is "stop", "length" or "timeout"."""

    text: str
    finish_reason: str
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: its first text, and with `n` above 1 the `others`.

    `completion_tokens` counts all that was written, also what `best_of` left out. `logprobs` has
    one entry for each token when the request asked for them.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    others: tuple[Choice, ...] = ()

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts."""
        return (self.text, *(one.text for one in self.others))

    @classmethod
    def from_outputs(cls, outputs: Outputs) -> Completion:
        """Raises ServerError when an output is missing or of another type."""
        texts, reasons = _texts(outputs, "text_output"), _texts(outputs, "finish_reason")
        logprobs = [_logprobs(one) for one in outputs.get("output_logprobs", ())]
        if len(reasons) != len(texts):
            raise malformed(f"{len(texts)} texts have {len(reasons)} finish_reasons")
        first, *others = (
            Choice(text, reason, logprobs[index] if index < len(logprobs) else ())
            for index, (text, reason) in enumerate(zip(texts, reasons, strict=True))
        )
        return cls(
            first.text,
            first.finish_reason,
            _count(outputs, "prompt_tokens"),
            _count(outputs, "completion_tokens"),
            first.logprobs,
            tuple(others),
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of text number `index` of a streamed answer, whole UTF-8.

    A text's last chunk has its finish_reason, the answer's last one the counts too; of a stream
    that was stopped it is "cancelled".
    """

    text: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    index: int = 0

    @classmethod
    def all_from_outputs(cls, outputs: Outputs) -> tuple[Chunk, ...]:
        """One chunk for each text in a response; raises ServerError when that is malformed."""
        texts = _texts(outputs, "text_output")
        if len(texts) == 1:
            return (cls.from_outputs(outputs),)
        likely = outputs.get("output_logprobs", ("",) * len(texts))
        counts = {name: outputs.get(name, ()) for name in ("prompt_tokens", "completion_tokens")}
        columns = texts, _texts(outputs, "finish_reason"), likely, outputs.get("index", ())
        if len({len(one) for one in columns}) > 1:
            raise malformed(f"{len(texts)} texts have other numbers of reasons or indices")
        rows = list(zip(*columns, strict=True))
        return tuple(
            cls.from_outputs(
                {
                    "text_output": [text],
                    "finish_reason": [reason],
                    "output_logprobs": [logprobs],
                    "index": [index],
                    # The counts stand with the last one, as in a stream of pieces.
                    **(counts if place == len(rows) else dict.fromkeys(counts, (0,))),
                }
            )
            for place, (text, reason, logprobs, index) in enumerate(rows, start=1)
        )

    @classmethod
    def from_outputs(cls, outputs: Outputs) -> Chunk:
        """Of a response with one text; raises ServerError when that is malformed."""
        index = _count(outputs, "index") if "index" in outputs else 0
        (likely,) = [_logprobs(one) for one in outputs.get("output_logprobs", ("",))]
        text, reason = _texts(outputs, "text_output")[0], _texts(outputs, "finish_reason")[0]
        # No prompt is empty: the counts of what isn't the last chunk are 0.
        if not reason or not _count(outputs, "prompt_tokens"):
            return cls(text, reason or None, logprobs=likely, index=index)
        counts = _count(outputs, "prompt_tokens"), _count(outputs, "completion_tokens")
        return cls(text, reason, *counts, likely, index)

    @property
    def is_last(self) -> bool:
        """Whether the answer is whole with this chunk."""
        return self.prompt_tokens is not None


def _texts(outputs: Outputs, name: str) -> list[str]:
    values = outputs.get(name, ())
    texts = [value for value in values if isinstance(value, str)]
    if not texts or len(texts) < len(values):
        raise malformed(f"{name} is {list(values)!r:.80} instead of texts")
    return texts


def _logprobs(text: Output) -> tuple[TokenLogprob, ...]:
    """Of the JSON array in `output_logprobs`, which is empty when there are none."""
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


def _count(outputs: Outputs, name: str) -> int:
    value = next(iter(outputs.get(name, ())), None)
    if not isinstance(value, int) or isinstance(value, bool):
        raise malformed(f"{name} is {value!r} instead of a count")
    return value
