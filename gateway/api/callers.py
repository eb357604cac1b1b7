"""Dependencies of routes: the gateway's parts, and who asks.

Comes in: a request. Goes out: Parts, a Caller, or Unauthorized, Unavailable and Forbidden.
"""

from typing import Annotated

from fastapi import Depends, Request

from gateway.errors import Forbidden
from gateway.messages import Caller
from gateway.wiring import Parts


async def parts_of(request: Request) -> Parts:
    """The gateway that serves the request; FastAPI would send a plain function to a thread."""
    parts: Parts = request.app.state.parts
    return parts


async def caller_of(request: Request) -> Caller:
    """Raises Unauthorized."""
    return await (await parts_of(request)).guard.caller(request.headers)


async def require_admin(caller: Annotated[Caller, Depends(caller_of)]) -> Caller:
    """Raises Forbidden for a key that isn't an admin's."""
    if caller.role != "admin":
        raise Forbidden("this needs a key of the role admin: ask the gateway's operator")
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]
PartsOf = Annotated[Parts, Depends(parts_of)]
