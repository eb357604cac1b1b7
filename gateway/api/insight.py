"""/metrics for Prometheus and /stats for people: sums over all keys, so for the operator alone.

A scraper of the same machine or private network that comes straight needs no key; through a proxy
(which says so in a header), or from elsewhere, it takes one of the role admin. Where a balancer
hides the addresses of strangers behind its own, `--insight admin` asks everybody for one. A scraper
may have a token of its own, `--insight-token-file`, which opens nothing else.
"""

import hmac
import ipaddress
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from gateway.api.callers import PartsOf, caller_of, require_admin
from gateway.api.description import errors

FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


async def require_near(request: Request, parts: PartsOf) -> None:
    """Let scrapers and admins pass, and near ones where they may; raises as `require_admin`."""
    if has_token(request, parts.config.insight_token):
        return
    if not (parts.config.is_insight_near and is_near(request)):
        await require_admin(await caller_of(request))


def has_token(request: Request, token: str | None) -> bool:
    """Whether the request shows the scrapers' token; compared in constant time."""
    shown = request.headers.get("authorization", "")
    return token is not None and hmac.compare_digest(shown.encode(), f"Bearer {token}".encode())


def is_near(request: Request) -> bool:
    """Whether the other end of the connection is itself a private address, and no proxy."""
    if request.client is None or any(name in request.headers for name in FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_private
    except ValueError:
        return False


router = APIRouter(tags=["operation"], dependencies=[Depends(require_near)])
REFUSALS = errors(401, 403)


@router.get("/metrics", response_class=Response, responses=REFUSALS)
async def metrics(request: Request, parts: PartsOf) -> Response:
    """Counters and histograms, in Prometheus' text form or OpenMetrics."""
    told = parts.metrics.exposition(request.headers.get("accept", ""))
    return Response(told.body, headers={"content-type": told.content_type})


@router.get("/stats", responses=REFUSALS)
async def stats(parts: PartsOf) -> dict[str, Any]:
    """The figures of the last minutes, and the state of each stage."""
    routes = parts.stages.routes
    return {
        **parts.metrics.stats(),
        "backends": {
            one.name: {"model": one.model, "version": one.version, "precision": one.precision}
            for one in routes.backends()
        },
        "connections": asdict(parts.connections.traffic),
    }
