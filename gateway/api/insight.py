"""/metrics for Prometheus and /stats for people: what operators read, with an admin's key.

Comes in: the gateway's Metrics. Goes out: their text or a few figures. A gateway that is open, on
loopback alone, shows them to whoever asks.
"""

from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway.api.callers import PartsOf, caller_of, require_admin
from gateway.api.description import errors


async def operator(request: Request, parts: PartsOf) -> None:
    """Raises Unauthorized or Forbidden."""
    if not parts.config.is_open:
        await require_admin(await caller_of(request))


router = APIRouter(tags=["insight"], dependencies=[Depends(operator)])
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}
}


@router.get("/metrics", responses={**_TEXT, **errors(401, 403)}, response_class=Response)
async def metrics(request: Request, parts: PartsOf) -> Response:
    """Prometheus' text, or OpenMetrics where it is asked for."""
    made = parts.metrics.exposition(request.headers.get("accept", ""))
    return Response(made.body, headers={"content-type": made.content_type})


@router.get("/stats", responses=errors(401, 403))
async def stats(parts: PartsOf) -> dict[str, object]:
    """Totals since the start, states, and quantiles of the last minutes."""
    return parts.metrics.stats()
