"""Finished requests for the tests of insight."""

from typing import Any

from gateway.messages import (
    Caller,
    CompletionRequest,
    Finished,
    Outcome,
    Served,
    Times,
    Usage,
)

SERVED = Served("stable", "gpt", "1", "fp32")
CALLER = Caller("key-1", "nt_ab12cd34", "tenant")


def request(**fields: Any) -> CompletionRequest:
    """A request for `def f(`."""
    known = {"id": "cmpl-1", "prompt": "def f(", "settings": {}, "stream": True, "timeout_s": 9.0}
    return CompletionRequest(**{**known, **fields})


def finished(outcome: Outcome = "ok", **fields: Any) -> Finished:
    """10 tokens in, 21 out, the first text after 0.2 s and the whole after 1.2 s."""
    known = {"caller": CALLER, "served": SERVED, "usage": Usage(10, 21)}
    return Finished(request(), outcome, Times(5.0, 6.2, 5.2), **{**known, **fields})
