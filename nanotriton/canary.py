"""A real completion through a door of a running server: what "healthy" means here.

Comes in: the HTTP address and a prompt. Goes out: nothing, or a ServerError that says what is
wrong. Triton's own health answers stay 200 when a model's process is dead, so they are not asked.
Knows nothing of processes.
"""

import json
import re
import urllib.error
import urllib.request

from nanotriton.errors import ServerError, Unavailable

# The models that people call, and what makes each answer in one response.
DOORS: dict[str, dict[str, object]] = {"completion": {}, "completion_stream": {"stream": False}}
# How the engine's own refusals (full, starting, restarted) begin. Their status can't be asked:
# Triton's /generate turns every error of a model into 400 (2.51), gRPC and /infer don't.
FROM_ENGINE = re.compile(r"(in ensemble '\w+', |\[UNAVAILABLE\] )?the engine")


def check_door(model: str, http_url: str, prompt: str, timeout_s: float) -> None:
    """Complete one token.

    Raises Unavailable when it takes too long or the engine says so itself, else ServerError.
    """
    body = {"text_input": prompt, "max_tokens": 1, **DOORS[model]}
    request = urllib.request.Request(
        f"{http_url}/v2/models/{model}/generate",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            answer = json.load(response)
    except urllib.error.HTTPError as error:
        message = _error_message(error)
        if FROM_ENGINE.match(message):
            raise Unavailable(message) from None
        raise ServerError(f"{model} answered {error.code}: {message}") from None
    except TimeoutError:
        raise Unavailable(f"{model} did not answer within {timeout_s:g} s: it is busy") from None
    except (OSError, ValueError) as error:
        raise ServerError(f"{model} did not answer: {error}") from None
    if not answer.get("finish_reason"):
        raise ServerError(f"{model} answered without a finish_reason: {answer}")


def _error_message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
