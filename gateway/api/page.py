"""The page at `/`: an editor that shows what the model would write; plain files, no build step.

Everything it needs comes from here, and its policy lets it load and call nothing else.
"""

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse

from gateway.errors import NotFound

FOLDER = Path(__file__).parent.parent / "page"
INDEX = "index.html"
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # asked for again by its ETag: a new gateway has a new page
}


def router() -> APIRouter:
    """`/` and the files beside it; they need no key, the calls that they make do."""
    routes = APIRouter(include_in_schema=False)
    files = {path.name: path for path in FOLDER.iterdir() if path.suffix in TYPES}

    @routes.get("/")
    async def index(request: Request) -> Response:
        return _file(files[INDEX], request)

    @routes.get("/page/{name}")
    async def file(name: str, request: Request) -> Response:
        if name not in files:
            raise NotFound(f"there is no file {name!r:.80} of the page: open / instead")
        return _file(files[name], request)

    return routes


def _file(path: Path, request: Request) -> Response:
    response = FileResponse(
        path, media_type=TYPES[path.suffix], headers=HEADERS, stat_result=path.stat()
    )
    if request.headers.get("if-none-match") == response.headers["etag"]:
        return NotModifiedResponse(response.headers)
    return response
