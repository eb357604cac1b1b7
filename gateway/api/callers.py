"""Dependencies of routes: the gateway's parts, and who asks.

Comes in: a request. Goes out: Parts, a Caller, or Unauthorized and Forbidden.
"""

from typing import Annotated

from fastapi import Depends, Request

from gateway.errors import Forbidden, Unauthorized
from gateway.messages import Caller
from gateway.wiring import Parts

# With --open: nobody is told apart, and nobody may change routes or read accounts.
ANYBODY = Caller("open", "open", "open")


def parts_of(request: Request) -> Parts:
    """The gateway that serves the request."""
    parts: Parts = request.app.state.parts
    return parts


async def caller_of(request: Request) -> Caller:
    """Raises Unauthorized."""
    parts = parts_of(request)
    if parts.stages.guard is not None:
        return await parts.stages.guard.caller(request.headers)
    if parts.config.is_open:
        return ANYBODY
    raise Unauthorized("this gateway knows no keys yet: start it with --open on a laptop")


async def require_admin(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """Raises Forbidden for a key that isn't an admin's."""
    if caller.role != "admin":
        raise Forbidden("this needs a key of the role admin: ask the gateway's operator")
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]
PartsOf = Annotated[Parts, Depends(parts_of)]
