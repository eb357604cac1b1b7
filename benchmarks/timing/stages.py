"""A completion's stages from the spans that its way left.

Comes in: what a client asked and when, and the spans under its trace. Goes out: the milliseconds of
each stage; a stage begins where the one before it ended, so all of them sum up to the whole. That
takes one clock, which all processes of a machine have. Knows nothing of servers.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from opentelemetry.proto.trace.v1.trace_pb2 import Span

STREAM, UNARY = "stream through the gateway", "unary at Triton"
WHOLE = "whole"

# What each stage ends with, in Unix nanoseconds, by the stages' names in their order.
Marks = dict[str, int]


@dataclass(frozen=True, slots=True)
class Traced:
    """A request as its client saw it, in Unix nanoseconds; its spans are those of `trace_id`."""

    way: str
    trace_id: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Stages:
    """What each stage of one request took, and the whole, in milliseconds."""

    way: str
    lengths_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of one way: over requests the median, the 95th percentile and the mean."""

    way: str
    num_users: int
    stage: str
    median_ms: float
    p95_ms: float
    mean_ms: float
    num_requests: int


class Trace:
    """The spans of one request, by name."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = list(spans)
        self._parents = {one.span_id: one.parent_span_id for one in self._spans}

    def find(self, name: str, under: Span | None = None) -> Span:
        """The first of this name, below that span; raises LookupError when it hasn't come."""
        for one in self._spans:
            if one.name == name and (under is None or self._is_below(one.span_id, under.span_id)):
                return one
        raise LookupError(name)

    def _is_below(self, span_id: bytes, other: bytes) -> bool:
        while span_id in self._parents:
            span_id = self._parents[span_id]
            if span_id == other:
                return True
        return False


def streamed_marks(trace: Trace) -> Marks:
    """The stages of a stream through the gateway; text is decoded within the decode steps."""
    upstream = trace.find("upstream")
    model = trace.find("completion_stream", under=upstream)
    return {
        "client to gateway": trace.find("completion").start_time_unix_nano,
        "gateway": upstream.start_time_unix_nano,
        "gateway to Triton": trace.find("InferRequest").start_time_unix_nano,
        "Triton queue": trace.find("compute", under=model).start_time_unix_nano,
        **_engine_marks(trace, model, "tokenize"),
    }


def unary_marks(trace: Trace) -> Marks:
    """The stages of a request to the ensemble."""
    tokenize, engine, detokenize = (
        trace.find(name) for name in ("preprocessing", "gpt", "postprocessing")
    )
    encoding = trace.find("compute", under=tokenize)
    decoding = trace.find("compute", under=detokenize)
    return {
        "client to Triton": trace.find("InferRequest").start_time_unix_nano,
        "Triton queue": encoding.start_time_unix_nano,
        "tokenize": encoding.end_time_unix_nano,
        **_engine_marks(trace, engine, "to the engine"),
        "back to Triton": decoding.start_time_unix_nano,
        "detokenize": decoding.end_time_unix_nano,
    }


MARKS: Mapping[str, Callable[[Trace], Marks]] = MappingProxyType(
    {STREAM: streamed_marks, UNARY: unary_marks}
)


def _engine_marks(trace: Trace, model: Span, before: str) -> Marks:
    """What the engine told under a model's span; `before` ends when it has the request."""
    queue = trace.find("queue", under=model)
    return {
        before: queue.start_time_unix_nano,
        "engine wait": queue.end_time_unix_nano,
        "prefill": trace.find("prefill", under=model).end_time_unix_nano,
        "decode": trace.find("decode", under=model).end_time_unix_nano,
    }


def stages_of(asked: Traced, spans: Iterable[Span]) -> Stages:
    """The stages of a request; raises LookupError while a span is missing."""
    marks = MARKS[asked.way](Trace(spans)) | {"back to the client": asked.end_ns}
    starts = [asked.start_ns, *marks.values()]
    lengths = {
        name: (end - start) / 1e6 for (name, end), start in zip(marks.items(), starts, strict=False)
    }
    return Stages(asked.way, lengths | {WHOLE: (asked.end_ns - asked.start_ns) / 1e6})


def summarize(num_users: int, found: Sequence[Stages]) -> list[Stage]:
    """A row for each way that was asked and each of its stages, the whole last."""
    rows = []
    for way in MARKS:
        own = [one.lengths_ms for one in found if one.way == way]
        for stage in own[0] if own else ():
            times = np.array([lengths[stage] for lengths in own])
            median, p95 = np.percentile(times, (50, 95)).tolist()
            mean = float(times.mean())
            rows.append(Stage(way, num_users, stage, median, p95, mean, len(own)))
    return rows
