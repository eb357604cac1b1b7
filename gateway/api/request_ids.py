"""ASGI middleware that gives every request an id and tells it, with the time that it took.

A sane x-request-id of the caller's is echoed; it names nothing here, so it may repeat. Knows
nothing of routes.
"""

import re
import secrets
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SANE = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class RequestIds:
    """Wraps an application; the id is in `scope["state"]["request_id"]` too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _SANE.fullmatch(given) else b"req-" + secrets.token_hex(12).encode()
        scope.setdefault("state", {})["request_id"] = request_id.decode()

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                took_ms = int((time.perf_counter() - started) * 1000)
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", request_id),
                    (b"openai-processing-ms", b"%d" % took_ms),
                ]
            await send(message)

        await self._app(scope, receive, marked)
