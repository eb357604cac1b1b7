"""OpenAI's `/v1/completions` over a peer's model, always as a stream: text in, events out.

What a user would put around an engine that has no server of its own: FastAPI, and a thread for the
model. Runs inside the peer's own virtual environment. Tokens are those of the checkpoint's
tokenizer, greedy; a prompt that is too long loses its beginning, and whoever closes the connection
gives the request up.
"""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from itertools import takewhile

import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from benchmarks.peers.desk import Desk, ModelError
from benchmarks.peers.serving import OpenModel, Options
from nanotriton.tokenizer import TextDecoder, Tokenizer, load_tokenizer


class Body(BaseModel):
    """What is read of a request; the rest is ignored, as it would change no greedy text."""

    prompt: str = Field(min_length=1)
    max_tokens: int = Field(16, ge=1)
    ignore_eos: bool = False


def serve_http(open_model: OpenModel, options: Options, on_ready: Callable[[str], None]) -> None:
    """Answer on a port of its own until stdin ends; tells HOST:PORT once it does."""
    assert options.tokenizer is not None
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    desk = Desk(partial(open_model, options))
    tokenizer = load_tokenizer(options.tokenizer)
    desk.wait_open()
    app = build_app(desk, tokenizer, options.max_tokens)
    with socket.create_server(("127.0.0.1", 0)) as door:
        on_ready(f"127.0.0.1:{door.getsockname()[1]}")
        config = uvicorn.Config(app, log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[door])


def build_app(desk: Desk, tokenizer: Tokenizer, max_tokens: int) -> FastAPI:
    """The application; no sequence gets longer than `max_tokens`."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def complete(body: Body) -> StreamingResponse:
        num_new = min(body.max_tokens, max_tokens - 1)
        prompt = tokenizer.encode(body.prompt)[-(max_tokens - num_new) :]
        end = None if body.ignore_eos else tokenizer.end_of_text
        answer = Answer(TextDecoder(tokenizer.table), end)
        return StreamingResponse(
            answer.events(desk, prompt, num_new), media_type="text/event-stream"
        )

    return app


class Answer:
    """One stream of events."""

    def __init__(self, decoder: TextDecoder, end: int | None) -> None:
        self._decoder = decoder
        self._end = end

    async def events(
        self, desk: Desk, prompt: list[int], num_new: int
    ) -> AsyncGenerator[str, None]:
        """An event for what each step brings, the counts, and the mark that it is whole."""
        num_tokens, reason = 0, "length"
        try:
            async with aclosing(desk.tokens(prompt, num_new)) as steps:
                async for brought in steps:
                    tokens = list(takewhile(lambda token: token != self._end, brought))
                    num_tokens += len(tokens)
                    yield self._event(self._decoder.push(tokens))
                    if len(tokens) < len(brought):
                        reason = "stop"
                        break
        except ModelError as error:
            yield f"data: {json.dumps({'error': {'message': str(error)}})}\n\n"
            return
        usage = {"prompt_tokens": len(prompt), "completion_tokens": num_tokens}
        yield self._event("", reason, usage)
        yield "data: [DONE]\n\n"

    def _event(
        self, text: str, reason: str | None = None, usage: dict[str, int] | None = None
    ) -> str:
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": reason}
        told = {"object": "text_completion", "choices": [choice], "usage": usage}
        return f"data: {json.dumps(told)}\n\n"


def _end_with_stdin() -> None:
    """Whoever started this has ended, or wants it to: it ends with all that libraries started."""
    sys.stdin.read()
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)
