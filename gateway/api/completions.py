"""The paths that complete: OpenAI's /v1/completions, and the short form.

Comes in: HTTP requests. Goes out: Answering responses. What a body may hold stands in options,
openai and native; what happens then is the service's. Routes ask for callers and parts themselves:
FastAPI's Depends takes a tenth of what a cached answer takes.
"""

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from gateway.api.answering import Answering, EventWriter, Streaming
from gateway.api.callers import caller_of, parts_of
from gateway.api.description import answers, body_of
from gateway.api.infill import DEFAULTS as INFILL_DEFAULTS
from gateway.api.infill import InfillBody, InfillWriter, options_of
from gateway.api.native import GenerateBody, GenerateWriter
from gateway.api.openai import DEFAULTS, CompletionBody, CompletionWriter, check
from gateway.api.options import read_body
from gateway.api.requests import completion_request
from gateway.errors import Unavailable
from gateway.flights import Flight
from gateway.messages import Caller, CompletionRequest
from gateway.wiring import Parts

DRAIN_RETRY_S = 2.0

router = APIRouter(tags=["completions"])


class Choice(BaseModel):
    """One text."""

    text: str
    index: int
    logprobs: dict[str, list[object]] | None
    finish_reason: str


class UsageBody(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class CompletionAnswer(BaseModel):
    """A whole answer in OpenAI's form."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: UsageBody


class GenerateAnswer(BaseModel):
    """A whole answer in the short form; `others` when n is above 1."""

    id: str
    model: str
    version: str
    text: str
    finish_reason: str
    usage: UsageBody


@router.post(
    "/v1/completions",
    openapi_extra=body_of(CompletionBody),
    responses=answers(CompletionAnswer, streams=True),
    response_class=Response,
)
async def create_completion(request: Request) -> Response:
    """Complete a prompt, or fill in between it and a suffix, as OpenAI's API does."""
    caller, parts = await caller_of(request), await parts_of(request)
    body = read_body(CompletionBody, await request.body())
    check(body)
    asked = completion_request(
        body,
        caller,
        request.headers,
        parts.config.limits,
        stream=bool(body.stream),
        defaults=DEFAULTS,
        logprobs=body.logprobs,
    )
    return _answering(request, parts, caller, asked, CompletionWriter(body))


@router.post(
    "/complete",
    openapi_extra=body_of(GenerateBody),
    responses=answers(GenerateAnswer),
    response_class=Response,
)
@router.post(
    "/v1/generate",
    openapi_extra=body_of(GenerateBody),
    responses=answers(GenerateAnswer),
    response_class=Response,
)
async def generate(request: Request) -> Response:
    """Complete a prompt: the short form, greedy and 64 tokens unless it says otherwise."""
    return await _generate(request, stream=False)


@router.post(
    "/v1/generate/stream",
    openapi_extra=body_of(GenerateBody),
    responses=answers(None, streams=True),
    response_class=Response,
)
async def generate_stream(request: Request) -> Response:
    """The same as events: `index`, `text` and `finish_reason`; the last one has the counts."""
    return await _generate(request, stream=True)


async def _generate(request: Request, *, stream: bool) -> Response:
    caller, parts = await caller_of(request), await parts_of(request)
    body = read_body(GenerateBody, await request.body())
    asked = completion_request(
        body,
        caller,
        request.headers,
        parts.config.limits,
        stream=stream,
        defaults={},
        logprobs=body.logprobs,
    )
    return _answering(request, parts, caller, asked, GenerateWriter())


@router.post(
    "/infill",
    openapi_extra=body_of(InfillBody),
    responses=answers(None),
    response_class=Response,
)
async def infill(request: Request) -> Response:
    """Fill in the middle, as llama.cpp's server is asked by llama.vscode and llama.vim."""
    caller, parts = await caller_of(request), await parts_of(request)
    body = read_body(InfillBody, await request.body())
    writer = InfillWriter(body)
    if not body.n_predict:
        return Response(writer.nothing(), media_type="application/json")
    asked = completion_request(
        options_of(body),
        caller,
        request.headers,
        parts.config.limits,
        stream=False,
        defaults=INFILL_DEFAULTS,
    )
    return Answering(parts.service, _flight(request, parts, caller, asked), writer)


def _flight(request: Request, parts: Parts, caller: Caller, asked: CompletionRequest) -> Flight:
    """Raises Unavailable when the gateway takes no new work."""
    if parts.is_draining:
        raise Unavailable(
            "this gateway is stopping: ask again, another one will answer",
            retry_after_s=DRAIN_RETRY_S,
            headers={"connection": "close"},
        )
    traces = parts.stages.traces
    return Flight(caller, asked, trace=traces.begin(request.headers) if traces else None)


def _answering(
    request: Request, parts: Parts, caller: Caller, asked: CompletionRequest, writer: EventWriter
) -> Response:
    kind = Streaming if asked.stream else Answering
    return kind(parts.service, _flight(request, parts, caller, asked), writer)
