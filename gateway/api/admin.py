"""What admins read and change while the gateway runs: the routes, and who changed them when.

    GET /admin/routes    the document in force, with its version
    PUT /admin/routes    another, made from that version; 409 when it is no longer the newest
    GET /admin/audit     the changes, newest first

Comes in: a dependency that proves an admin, and the book of routes. Knows nothing of keys.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query

from gateway.messages import Caller
from gateway.routing.book import MAX_ENTRIES, RoutesBook
from gateway.routing.document import Document

EXAMPLE = {
    "version": 3,
    "salt": "nanotriton",
    "backends": [
        {"name": "stable", "url": "triton-1:8001", "weight": 9},
        {"name": "canary", "url": "triton-2:8001", "weight": 1, "version": "2"},
        {"name": "trial", "url": "triton-3:8001", "weight": 0, "shadow": 0.05},
    ],
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not a whole document; the message names the field"},
    401: {"description": "No key, or one that isn't good"},
    403: {"description": "The key's role is not admin"},
    409: {"description": "The routes were changed meanwhile"},
    503: {"description": "The database doesn't answer"},
}


def router(require_admin: Callable[..., Any], book: RoutesBook) -> APIRouter:
    """The routes of admins; `require_admin` is a dependency that gives the Caller or raises."""
    routes = APIRouter(prefix="/admin", tags=["admin"], responses=_refusals(401, 403))
    admin = Depends(require_admin)

    @routes.get("/routes", dependencies=[admin])
    async def read_routes() -> Document:
        """The routes that this gateway follows."""
        return book.routes.document

    @routes.put("/routes", responses=_refusals(400, 409, 503))
    async def change_routes(
        document: Annotated[Document, Body(examples=[EXAMPLE])], caller: Annotated[Caller, admin]
    ) -> Document:
        """Put other routes in force, whole, and tell the audit; `version` is the one read."""
        changed = await asyncio.to_thread(book.change, document, caller)
        book.follow(changed)
        return changed

    @routes.get("/audit", dependencies=[admin], responses=_refusals(400, 503))
    async def read_audit(
        limit: Annotated[int, Query(ge=1, le=MAX_ENTRIES)] = 100,
        before: Annotated[int | None, Query(ge=1, le=(1 << 63) - 1)] = None,
    ) -> list[dict[str, Any]]:
        """The changes, newest first; `before` is the id to read on from."""
        return await asyncio.to_thread(book.audit, limit, before)

    return routes


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: REFUSALS[status] for status in statuses}
