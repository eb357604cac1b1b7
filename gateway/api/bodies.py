"""ASGI middleware that reads a request's body whole, within limits, before anybody parses it.

Comes in: parts of a body, as slow as they like. Goes out: the same body in one part, or an error:
too large, too slow, not JSON, nested too deeply. Knows nothing of what the JSON says.
"""

import re
from collections.abc import Mapping

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.refusals import error_response
from gateway.config import Limits
from gateway.errors import GatewayError, InvalidRequest, SlowBody, TooLarge, WrongContentType

_WITH_BODY = {"POST", "PUT", "PATCH", "DELETE"}
# Of what is too large so many times the limit is read and dropped: a caller who still sends would
# see a broken connection instead of the answer.
DISCARDED = 64
# A string to its end or, if it has none, to the body's; so that every character is read once.
_MARK = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL)


class Bodies:
    """Wraps an application."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["method"] not in _WITH_BODY:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            body = await self._read(headers, receive)
            self._check(headers, body)
        except GatewayError as error:
            error.headers["connection"] = "close"  # the rest of the body isn't read
            await error_response(error)(scope, receive, send)
        except _GoneError:
            return
        else:
            await self._app(scope, _Replay(body, receive), send)

    async def _read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        most = self._limits.max_body_bytes
        announced = headers.get(b"content-length", b"0")
        if b"expect" in headers and (len(announced) > 15 or int(announced) > most):
            raise self._too_large()  # its caller waits for a word before it sends anything
        body, num_bytes = bytearray(), 0
        with anyio.move_on_after(self._limits.body_timeout_s):
            while num_bytes <= most * DISCARDED:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _GoneError
                part = message.get("body", b"")
                num_bytes += len(part)
                if num_bytes <= most:
                    body += part
                if not message.get("more_body", False):
                    break
            if num_bytes > most:
                raise self._too_large()
            return bytes(body)
        raise SlowBody(
            f"the body wasn't whole after {self._limits.body_timeout_s:g} s: send it faster"
        )

    def _too_large(self) -> TooLarge:
        return TooLarge(
            f"the body has more than {self._limits.max_body_bytes} bytes: send a shorter prompt"
        )

    def _check(self, headers: Mapping[bytes, bytes], body: bytes) -> None:
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if body and kind != b"application/json":
            raise WrongContentType(
                f"the content-type is {kind[:60].decode('ascii', 'replace')!a}: send "
                "application/json"
            )
        if (depth := depth_of(body)) > self._limits.max_json_depth:
            raise InvalidRequest(
                f"the JSON is nested {depth} deep, at most {self._limits.max_json_depth} are read"
            )


def depth_of(body: bytes) -> int:
    """How deeply JSON is nested, at most; cheap for what can't be deep at all."""
    most = body.count(b"{") + body.count(b"[")
    if most <= 1:
        return most
    depth = deepest = 0
    for found in _MARK.finditer(body):
        mark = body[found.start()]
        if mark in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in b"]}":
            depth -= 1
    return deepest


class _GoneError(Exception):
    """The caller left before its body was whole."""


class _Replay:
    """Gives the body once, then whatever comes: that the caller leaves."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        """ASGI."""
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}
