"""Spans of a trace, as a test reads them."""

from opentelemetry.proto.trace.v1.trace_pb2 import Span


def path_up(spans: dict[str, Span], name: str) -> list[str]:
    """Names from a span up to where the trace came from."""
    by_id = {one.span_id: one for one in spans.values()}
    found, now = [], spans[name]
    while now.parent_span_id in by_id:
        now = by_id[now.parent_span_id]
        found.append(now.name)
    return [*found, now.parent_span_id.hex()]
