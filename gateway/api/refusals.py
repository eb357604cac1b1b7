"""Errors as answers: every one in OpenAI's shape, with its status and headers.

Comes in: whatever was raised. Goes out: one sentence of JSON, never a traceback; what nobody
expected goes to the log alone.
"""

import json
import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from gateway.api.options import refusal
from gateway.errors import GatewayError, InvalidRequest, NotFound

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(examples=["max_tokens is 0: Input should be greater than or equal to 1"])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(examples=["max_tokens"])
    code: str | None


class ErrorBody(BaseModel):
    """Every error's body."""

    error: ErrorDetail


class MethodNotAllowed(InvalidRequest):
    """The path is there for another method."""

    status = 405


def unexpected() -> GatewayError:
    """What is told of an error that nobody thought of."""
    return GatewayError("the gateway failed: try again, or tell its operator the x-request-id")


def error_response(error: GatewayError) -> Response:
    """The answer that says it."""
    headers = dict(error.headers)
    if error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return JSONResponse(error.body(), error.status, headers)


def error_event(error: GatewayError) -> bytes:
    """The same inside a stream that has begun."""
    return b"data: " + json.dumps(error.body()).encode() + b"\n\n"


def add_handlers(app: FastAPI) -> None:
    """Make `app` answer whatever its routes raise."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        request.app.state.parts.service.refused(error)
        return error_response(error)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_response(refusal(error.errors()[0], ()))

    async def of_the_router(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        path = request.url.path[:80]
        if error.status_code == NotFound.status:
            return error_response(NotFound(f"there is nothing at {path!a}: see /docs"))
        if error.status_code == MethodNotAllowed.status:
            told = MethodNotAllowed(
                f"{path!a} doesn't take {request.method}: see /docs",
                headers={"allow": ", ".join(_methods_of(request))},
            )
            return error_response(told)
        return error_response(InvalidRequest(str(error.detail), headers=error.headers))

    async def failed(_: Request, error: Exception) -> Response:
        del error  # starlette raises it again behind this answer, and the server logs it
        return error_response(unexpected())

    app.add_exception_handler(GatewayError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, of_the_router)
    app.add_exception_handler(Exception, failed)


def _methods_of(request: Request) -> list[str]:
    """All that the path takes: starlette tells those of the first route alone."""
    return [
        method
        for method in METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]
