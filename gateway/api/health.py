"""/health: whether this process answers, and whether a completion gets through it."""

from fastapi import APIRouter
from starlette.responses import JSONResponse

from gateway.api.callers import PartsOf

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "live"}


@router.get("/ready", responses={503: {"description": "Nothing completes, or it is stopping."}})
async def ready(parts: PartsOf) -> JSONResponse:
    """A backend completes; asked for real, and again when that is a few seconds old."""
    if parts.is_draining:
        return JSONResponse({"status": "draining"}, 503)
    seen = await parts.canary.check()
    is_ready = None in seen.values()
    backends = {name: what or "ready" for name, what in seen.items()}
    status = "ready" if is_ready else "unavailable"
    return JSONResponse({"status": status, "backends": backends}, 200 if is_ready else 503)
