"""The OpenAPI description: what FastAPI can't know of bodies that the gateway reads itself.

Comes in: an application. Goes out: its document, with every body, error and the ways to say who one
is. Knows nothing of requests.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from gateway.api.refusals import ErrorBody

_REF = "#/components/schemas/{model}"
_ERRORS = {
    400: "An option that is wrong; `param` names it.",
    401: "No key, or one that isn't good.",
    403: "A good key that may not do this.",
    404: "A model that isn't there.",
    408: "The body didn't arrive in time.",
    409: "A newer request of the same session came.",
    413: "The body is too large.",
    415: "The body isn't application/json.",
    429: "More than this key may ask for, or the queue is full; see Retry-After.",
    500: "The model server failed.",
    503: "The model can't be reached now; see Retry-After.",
    504: "The deadline passed before the answer was whole.",
}
_EVENT = {"type": "object", "properties": {"data": {"type": "string"}}, "required": ["data"]}
_OF_BODIES = (400, 408, 413, 415)  # what whoever sends a body may be told
_OF_KEYS = (401, 403, 503)  # and whoever needs a key, whose database may be gone
_KEYED: list[dict[str, list[str]]] = [{"bearer": []}, {"key": []}]
# Health is for everybody, and the operator's pages for a neighbour without a key.
_UNKEYED: dict[str, list[dict[str, list[str]]]] = {
    "/health/live": [],
    "/health/ready": [],
    "/metrics": [*_KEYED, {}],
    "/stats": [*_KEYED, {}],
}
_BODIES: dict[str, type[BaseModel]] = {}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads a body of this kind."""
    _BODIES[kind.__name__] = kind
    schema = {"$ref": _REF.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def answers(whole: type[BaseModel] | None, *, streams: bool = False) -> dict[int | str, Any]:
    """`responses` of a route: what is good, and every error."""
    good: dict[str, Any] = {"description": "The completion."}
    if whole is not None:
        good["model"] = whole
    if streams:
        good["content"] = {"text/event-stream": {"schema": _EVENT}}
    return {200: good, **errors(*_ERRORS)}


def errors(*codes: int) -> dict[int | str, Any]:
    """`responses` of a route that fails with these alone."""
    return {code: {"model": ErrorBody, "description": _ERRORS[code]} for code in codes}


def _error(code: int) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=ErrorBody.__name__)}
    return {"description": _ERRORS[code], "content": {"application/json": {"schema": schema}}}


def describe(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name, kind in _BODIES.items():
            schema = kind.model_json_schema(ref_template=_REF)
            schemas.update(schema.pop("$defs", {}))
            schemas[name] = schema
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        }
        document["security"] = _KEYED
        for path, methods in document["paths"].items():
            for operation in methods.values():
                operation["responses"].pop("422", None)  # such bodies are answered with 400
                shared = _OF_BODIES if "requestBody" in operation else ()
                keys = () if path.startswith("/health") else _OF_KEYS
                if path in _UNKEYED:
                    operation["security"] = _UNKEYED[path]
                for code in (*keys, *shared):
                    operation["responses"].setdefault(str(code), _error(code))
        app.openapi_schema = document
    return app.openapi_schema
