"""The short form: a prompt in, its text out; the engine's own defaults, greedy and 64 tokens.

Comes in: bodies, flights, chunks. Goes out: bytes. Knows nothing of HTTP.
"""

import json

from pydantic import ConfigDict, Field, JsonValue

from clients import Chunk
from clients.messages import TokenLogprob
from gateway.api.openai import usage_json
from gateway.api.options import Options
from gateway.flights import Flight
from gateway.messages import Answer

_EXAMPLES: list[JsonValue] = [
    {"prompt": "def fib(n):"},
    {"prompt": "x = ", "suffix": "\ny = x", "stop_at": "line"},
]


class GenerateBody(Options):
    """The body of POST /complete and /v1/generate."""

    model_config = ConfigDict(json_schema_extra={"examples": _EXAMPLES})

    logprobs: int | None = Field(None, ge=0, le=20, description="Tell each token's, and so many.")


class GenerateWriter:
    """Writes one answer."""

    def whole(self, flight: Flight, answer: Answer) -> bytes:
        """The body of an answer that isn't streamed; `others` are the texts after the first."""
        logprobs = answer.logprobs or ((),) * len(answer.texts)
        rows = zip(answer.texts, answer.finish_reasons, logprobs, strict=True)
        first, *others = ({"text": text, **_end(reason, likely)} for text, reason, likely in rows)
        more = {"others": others} if others else {}
        return json.dumps({**_common(flight), **first, **more, **_usage(flight)}).encode()

    def event(self, flight: Flight, chunk: Chunk) -> bytes:
        """The event of a chunk; the last one has the id and the counts."""
        told = {
            "index": chunk.index,
            "text": chunk.text,
            **_end(chunk.finish_reason, chunk.logprobs),
        }
        if chunk.is_last:
            told |= {**_common(flight), **_usage(flight)}
        return b"data: %s\n\n" % json.dumps(told).encode()

    def end(self, flight: Flight) -> bytes:
        """Nothing: the last chunk said it."""
        del flight
        return b""


def _common(flight: Flight) -> dict[str, object]:
    assert flight.served is not None
    return {
        "id": flight.request.id,
        "model": flight.served.model,
        "version": flight.served.version,
    }


def _usage(flight: Flight) -> dict[str, object]:
    return {"usage": usage_json(flight.usage, flight.cost)}


def _end(reason: str | None, logprobs: tuple[TokenLogprob, ...]) -> dict[str, object]:
    told: dict[str, object] = {"finish_reason": reason}
    if logprobs:
        told["logprobs"] = [
            {
                **{"id": one.id, "text": one.text, "logprob": one.logprob},
                "top": [{"id": o.id, "text": o.text, "logprob": o.logprob} for o in one.top],
            }
            for one in logprobs
        ]
    return told
