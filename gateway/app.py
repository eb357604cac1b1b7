"""The application: its paths, what wraps them, and its life from start to stop.

Comes in: a Config. Goes out: a FastAPI application, ready for uvicorn. Knows nothing of ports.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway.api import admin, completions, docs, events, health, insight, models, page
from gateway.api.bodies import Bodies
from gateway.api.callers import caller_of, require_admin
from gateway.api.description import describe
from gateway.api.refusals import add_handlers
from gateway.api.request_ids import RequestIds
from gateway.config import Config
from gateway.wiring import build_parts

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
        for start in parts.starting:
            await start()
        tasks = [asyncio.create_task(run()) for run in parts.running]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in reversed(parts.closing):
            await close()

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
    for router in (
        *(completions.router, models.router, health.router, docs.router, insight.router),
        events.router(caller_of, parts.events),
        admin.router(require_admin, parts.book),
        page.router(),
    ):
        app.include_router(router)
    add_handlers(app)
    app.add_middleware(Bodies, limits=config.limits)
    app.add_middleware(RequestIds)  # the outermost: every answer has an id
    return app
