"""OpenAI's form of a completion: its options beyond the common ones, and its JSON.

Comes in: bodies, flights, chunks. Goes out: bytes as OpenAI's clients read them
(https://platform.openai.com/docs/api-reference/completions). Its defaults hold: temperature 1 and
16 tokens. Knows nothing of HTTP.
"""

import json
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from clients import Chunk
from clients.messages import TokenLogprob
from gateway.api.options import Options
from gateway.errors import InvalidRequest
from gateway.flights import Flight
from gateway.messages import Answer, Usage

DEFAULTS = {"max_tokens": 16, "temperature": 1.0}
DONE = b"data: [DONE]\n\n"
_EXAMPLES: list[JsonValue] = [
    {"model": "nanotriton", "prompt": "def fib(n):", "max_tokens": 32, "temperature": 0},
    {
        "prompt": "def mean(values):\n    ",
        "suffix": "\n    return total / len(values)\n",
        "stop_at": "line",
        "stream": True,
    },
]


class StreamOptions(BaseModel):
    """How a stream ends."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = Field(None, description="One more event, with the counts.")


class CompletionBody(Options):
    """The body of POST /v1/completions."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    stream: bool | None = Field(None, description="The text as it is written, as events.")
    stream_options: StreamOptions | None = None
    logprobs: int | None = Field(None, ge=0, le=5, description="Tell each token's, and so many.")
    echo: bool | None = Field(None, description="The prompt before the text.")


def check(body: CompletionBody) -> None:
    """Refuse what doesn't go together; raises InvalidRequest."""
    if body.echo and body.logprobs is not None:
        raise InvalidRequest(
            f"echo and logprobs ({body.logprobs}) don't go together here: the prompt's tokens are "
            "not scored, leave one out",
            param="echo",
        )
    if body.stream_options is not None and not body.stream:
        raise InvalidRequest(
            "stream_options are for a stream: set stream, or leave them out", param="stream_options"
        )


class CompletionWriter:
    """Writes one answer."""

    def __init__(self, body: CompletionBody) -> None:
        self._echo = body.prompt if body.echo else ""
        self._has_logprobs = body.logprobs is not None
        self._tells_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._created = int(time.time())
        self._head: bytes | None = None
        self._lengths: dict[int, int] = {}  # characters of each text so far

    def whole(self, flight: Flight, answer: Answer) -> bytes:
        """The body of an answer that isn't streamed."""
        logprobs = answer.logprobs or ((),) * len(answer.texts)
        rows = zip(answer.texts, answer.finish_reasons, logprobs, strict=True)
        choices = [
            self._choice(index, self._echo + text, reason, likely)
            for index, (text, reason, likely) in enumerate(rows)
        ]
        return json.dumps(
            {
                **self._common(flight),
                "choices": choices,
                "usage": usage_json(answer.usage, flight.cost),
            }
        ).encode()

    def event(self, flight: Flight, chunk: Chunk) -> bytes:
        """The event of a chunk; of the same request all begin with the same bytes."""
        if self._head is None:
            common = json.dumps(self._common(flight)).removesuffix("}")
            usage = ', "usage": null' if self._tells_usage else ""
            self._head = f'data: {common}{usage}, "choices": ['.encode()
        text = chunk.text if chunk.index in self._lengths else self._echo + chunk.text
        choice = self._choice(chunk.index, text, chunk.finish_reason, chunk.logprobs)
        return b"%s%s]}\n\n" % (self._head, json.dumps(choice).encode())

    def end(self, flight: Flight) -> bytes:
        """The counts, if they were asked for, and the mark that it is whole."""
        if not self._tells_usage:
            return DONE
        last = {
            **self._common(flight),
            "choices": [],
            "usage": usage_json(flight.usage, flight.cost),
        }
        return b"data: %s\n\n%s" % (json.dumps(last).encode(), DONE)

    def _common(self, flight: Flight) -> dict[str, object]:
        served = flight.served
        assert served is not None
        return {
            "id": flight.request.id,
            "object": "text_completion",
            "created": self._created,
            "model": served.model,
            "system_fingerprint": f"{served.version}-{served.precision}",
        }

    def _choice(
        self, index: int, text: str, reason: str | None, logprobs: tuple[TokenLogprob, ...]
    ) -> dict[str, object]:
        start = self._lengths.get(index, 0)
        self._lengths[index] = start + len(text)
        return {
            "text": text,
            "index": index,
            "logprobs": logprobs_json(logprobs, start) if self._has_logprobs else None,
            # OpenAI has no word for a deadline; to its clients a text that was cut is too long.
            "finish_reason": "length" if reason == "timeout" else reason,
        }


def logprobs_json(logprobs: tuple[TokenLogprob, ...], start: int) -> dict[str, list[Any]]:
    """OpenAI's four lists. Offsets count characters of the tokens as they are shown."""
    offsets = []
    for one in logprobs:
        offsets.append(start)
        start += len(one.text)
    return {
        "tokens": [one.text for one in logprobs],
        "token_logprobs": [one.logprob for one in logprobs],
        # With the token itself, which may not be among the likeliest.
        "top_logprobs": [
            {other.text: other.logprob for other in (*one.top, one)} for one in logprobs
        ],
        "text_offset": offsets,
    }


def usage_json(usage: Usage, cost: float | None) -> dict[str, float]:
    """OpenAI's three counts, and what they cost in the price table's currency."""
    priced = {} if cost is None else {"cost": cost}
    return {
        **priced,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
