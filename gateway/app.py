"""The application: its paths, what wraps them, and its life from start to stop.

Comes in: a Config. Goes out: a FastAPI application, ready for uvicorn. Knows nothing of ports.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway.api import completions, docs, health, insight, models
from gateway.api.bodies import Bodies
from gateway.api.description import describe
from gateway.api.refusals import add_handlers
from gateway.api.request_ids import RequestIds
from gateway.config import Config
from gateway.wiring import Parts, build_parts

VERSION = "1"
DESCRIPTION = (
    "Code completion in OpenAI's form and a shorter one. Say who you are with "
    "`Authorization: Bearer KEY` or `X-API-Key: KEY`."
)


def build_app(config: Config) -> FastAPI:
    """The application; its parts stand in `app.state.parts`."""
    parts = build_parts(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await _close(parts)

    app = FastAPI(
        title="nanotriton gateway",
        version=VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # FastAPI's pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.parts = parts
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]
    rooms = (completions, models, health, insight, docs)
    for router in (*(room.router for room in rooms), *parts.routers):
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Bodies, limits=config.limits)
    app.add_middleware(RequestIds)  # the outermost: every answer has an id
    return app


async def _close(parts: Parts) -> None:
    for close in reversed(parts.closing):
        await close()
