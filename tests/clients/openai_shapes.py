"""What the gateway would say of playback's steps: OpenAI's JSON and its events."""

import json
import re
from typing import Any

# Of an engine's status: the HTTP status and the type that the gateway tells.
ERRORS = {
    "INVALID_ARG": (400, "invalid_request_error"),
    "INVALID_ARGUMENT": (400, "invalid_request_error"),
    "NOT_FOUND": (500, "server_error"),
    "INTERNAL": (500, "server_error"),
    "UNAVAILABLE": (503, "service_unavailable"),
    "UNAUTHENTICATED": (401, "authentication_error"),
    "PERMISSION_DENIED": (403, "permission_error"),
    "RESOURCE_EXHAUSTED": (429, "rate_limit_error"),
    "ABORTED": (409, "superseded"),
    "DEADLINE_EXCEEDED": (504, "timeout_error"),
}
_MARK = re.compile(r"\[([A-Z_]+)\] ")


def status_of(code: str, message: str) -> int:
    """The status of an answer that fails before its first byte."""
    return ERRORS[_code(code, message)][0]


def error_of(code: str, message: str) -> str:
    """The JSON of an error; a mark of the engine's has become its type."""
    kind = ERRORS[_code(code, message)][1]
    message = _MARK.sub("", message).removeprefix("in ensemble 'completion', ")
    told = {"message": message, "type": kind, "param": None, "code": None}
    return json.dumps({"error": told})


def _code(code: str, message: str) -> str:
    mark = _MARK.match(message)
    return mark[1] if mark else code


def events_of(piece: dict[str, list[Any]]) -> list[str]:
    """The events of one response of the engine: the counts come in one of their own."""
    (text,), (reason,), (index,) = (
        *(piece["text_output"], piece["finish_reason"], piece["index"]),
    )
    choice = {"text": text, "index": index, "finish_reason": reason or None, "logprobs": None}
    events = [json.dumps({"id": "cmpl-1", "choices": [choice]}, ensure_ascii=False)]
    if piece["prompt_tokens"][0]:
        events += [json.dumps({"id": "cmpl-1", "choices": [], "usage": _usage(piece)}), "[DONE]"]
    return events


def answer_of(outputs: dict[str, list[Any]]) -> dict[str, Any]:
    """The whole answer."""
    rows = zip(outputs["text_output"], outputs["finish_reason"], strict=True)
    choices = [
        {"text": text, "index": index, "finish_reason": reason, "logprobs": None}
        for index, (text, reason) in enumerate(rows)
    ]
    return {"id": "cmpl-1", "choices": choices, "usage": _usage(outputs)}


def _usage(outputs: dict[str, list[Any]]) -> dict[str, int]:
    (written,), (read,) = outputs["completion_tokens"], outputs["prompt_tokens"]
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
