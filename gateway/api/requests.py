"""Options and headers to a CompletionRequest: defaults, the deadline, what a role may ask.

Comes in: checked Options, the caller, the request's headers. Goes out: a CompletionRequest, or an
error by the option's name. Knows nothing of JSON.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from clients.tensors import SETTINGS
from gateway.api.options import Options
from gateway.config import Limits
from gateway.errors import Forbidden, InvalidRequest
from gateway.messages import Caller, CompletionRequest

TIMEOUT_HEADERS = {"x-request-timeout-ms": 0.001, "x-stainless-read-timeout": 1.0}  # in seconds
# The gateway's own to say: the deadline, and whose prefix cache it is.
_OWN = {"timeout_ms", "user"}


def completion_request(
    options: Options,
    caller: Caller,
    headers: Mapping[str, str],
    limits: Limits,
    *,
    stream: bool,
    defaults: Mapping[str, Any],
    logprobs: int | None = None,
) -> CompletionRequest:
    """Raises InvalidRequest or Forbidden."""
    for name in ("prompt", "suffix"):
        check_text(name, getattr(options, name) or "", limits.max_prompt_chars)
    if (options.priority or 0) > 0 and caller.role != "admin":
        raise Forbidden(
            f"priority is {options.priority}, this key may give 0 at most: leave it out",
            param="priority",
        )
    n = options.n or 1
    if options.best_of is not None and options.best_of < n:
        raise InvalidRequest(
            f"best_of is {options.best_of}, n is {n}: write at least as many texts as are returned",
            param="best_of",
        )
    if stream and (options.best_of or n) > n:
        raise InvalidRequest(
            f"best_of is {options.best_of}, n is {n}: a stream can't choose before all is written, "
            "leave best_of or stream out",
            param="best_of",
        )
    given = options.model_dump(exclude_none=True, include={*SETTINGS} - _OWN)
    settings = {**defaults, **given} | ({} if logprobs is None else {"logprobs": logprobs})
    return CompletionRequest(
        id=f"cmpl-{secrets.token_hex(12)}",
        prompt=options.prompt,
        settings={name: value for name, value in settings.items() if value not in ((), "", {})},
        stream=stream,
        timeout_s=timeout_of(options, headers, limits),
        model=options.model or None,  # editors send an empty one
        session=options.session,
        user=options.user,
    )


def check_text(name: str, text: str, max_chars: int) -> None:
    """Raises InvalidRequest for what the engine could never read."""
    if len(text) > max_chars:
        raise InvalidRequest(
            f"{name} has {len(text)} characters, at most {max_chars} are read: send the end of it",
            param=name,
        )
    if (position := text.find("\0")) >= 0:
        raise InvalidRequest(
            f"{name} holds a NUL character at {position}: leave it out", param=name
        )


def timeout_of(options: Options, headers: Mapping[str, str], limits: Limits) -> float:
    """Seconds for the whole answer: the body's, else a header's, else the default; capped."""
    if options.timeout is not None and options.timeout_ms is not None:
        raise InvalidRequest(
            "timeout and timeout_ms are both given: leave one out", param="timeout"
        )
    if options.timeout_ms is not None:
        return min(options.timeout_ms / 1000, limits.max_timeout_s)
    if options.timeout is not None:
        return min(options.timeout, limits.max_timeout_s)
    for name, unit_s in TIMEOUT_HEADERS.items():
        if name in headers:
            return min(_seconds(name, headers[name], unit_s), limits.max_timeout_s)
    return limits.timeout_s


def _seconds(name: str, text: str, unit_s: float) -> float:
    try:
        seconds = float(text) * unit_s
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InvalidRequest(f"the header {name} is {text[:32]!a}: give a number above 0")
    return seconds
