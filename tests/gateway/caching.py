"""Callers, requests and answers for the tests of the caches."""

from typing import Any

from gateway.messages import Answer, Caller, CompletionRequest, Served, Usage

SERVED = Served("stable", "demo", "1", "fp32")


def caller(tenant: str = "acme", key_id: str = "key") -> Caller:
    """One of a tenant."""
    return Caller(key_id, "nt_test", tenant)


def request(prompt: str, session: str | None = None, **settings: Any) -> CompletionRequest:
    """A request for a completion."""
    settings = {"max_tokens": 64, **settings}
    return CompletionRequest("cmpl-1", prompt, settings, False, 30.0, session=session)


def answer(text: str, reason: str = "stop", tokens: int = 8) -> Answer:
    """A whole answer of one text."""
    return Answer((text,), (reason,), Usage(5, tokens))
