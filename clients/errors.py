"""What can go wrong between a caller and the server, as one tree; every message is one sentence.

    ClientError
    ├── InvalidRequest   the request can't be served as it is   HTTP 400, gRPC INVALID_ARGUMENT
    ├── Unauthorized     no key, or none that may do this       HTTP 401, 403        gateway
    ├── Superseded       a newer request took its place         HTTP 409             gateway
    ├── Unavailable      it may work later, or elsewhere        HTTP 503, UNAVAILABLE, CANCELLED by
    │   │                                                       the server, no connection
    │   └── RateLimited  more than this key may ask for         HTTP 429             gateway
    ├── Timeout          the deadline passed first              DEADLINE_EXCEEDED
    └── ServerError      anything else the server did           HTTP 404 and 5xx, every other code

Comes in: statuses and messages as the transports saw them. Knows nothing of grpc or httpx.

Triton drops the status of an error inside a stream: gRPC sends the message alone, and HTTP sends
400 whatever it was. So a model may put its status in front of the message, as in
`[UNAVAILABLE] the engine is full`; that mark outranks the rest and isn't shown. Triton's own words
for a model that starts, stops or is loaded anew have none, and are known by themselves.
"""

import json
import re

# Triton puts these in front of a model's own sentence, in any order (tritonserver 2.51.0).
_PREFIXES = re.compile(
    r"(?:in ensemble '[^']*', "
    r"|\[request id: [^\]]*\] "
    r"|Failed to process the request\(s\) for model '[^']*', message: )+"
)
_MARK = re.compile(r"\[([A-Z_]+)\] ")
# What tritonserver 2.51.0 itself says with the status UNAVAILABLE, which a stream doesn't have.
_AWAY = re.compile(
    r"Server is stopping|Server not ready"
    r"|Request for unknown model: '[^']*' (?:has no available versions|.*not at ready state)"
)
# What grpc.aio (1.85) says, as INTERNAL, of a call whose connection broke while it was begun.
_CUT = "Internal error from Core"
_TRACEBACK = re.compile(r"\s*(?:\n\s*At:\n|Traceback \(most recent call last\)).*", re.DOTALL)


class ClientError(Exception):
    """Anything that keeps a request from its completion."""


class InvalidRequest(ClientError):
    """The request can't be served as it is; sending it again won't help."""


class Unauthorized(ClientError):
    """The gateway wants a key, another one, or one with other rights."""


class Superseded(ClientError):
    """A newer request of the same session took this one's place."""


class Unavailable(ClientError):
    """The server can't be reached or can't take the request now; the same may work later."""

    retry_after_s: float | None = None  # when the server says so


class RateLimited(Unavailable):
    """More than this key may ask for now."""


class Timeout(ClientError):
    """The deadline passed before the answer was whole."""


class ServerError(ClientError):
    """The server failed, or answered with what isn't a completion."""


_KINDS: dict[int | str, type[ClientError]] = {
    400: InvalidRequest,
    503: Unavailable,
    "INVALID_ARGUMENT": InvalidRequest,
    "INVALID_ARG": InvalidRequest,  # as Triton's models spell it
    "UNAVAILABLE": Unavailable,
    "CANCELLED": Unavailable,  # by a server that stops: who cancels by himself reads no error
    "DEADLINE_EXCEEDED": Timeout,
}


def from_status(status: int | str, message: str) -> ClientError:
    """The error of an HTTP status or of a gRPC code's name, with the model's own sentence."""
    message = " ".join(_TRACEBACK.sub("", _PREFIXES.sub("", message, count=1)).split())
    if mark := _MARK.match(message):
        status, message = mark[1], message[mark.end() :]
    elif _AWAY.match(message):
        status = "UNAVAILABLE"
    return _KINDS.get(status, ServerError)(message or f"the server answered {status}")


def from_grpc(code: str, details: str, url: str) -> ClientError:
    """The error of a gRPC call; `code` is its name, such as UNAVAILABLE."""
    if details.startswith(("failed to connect to all addresses", "errors resolving")):
        return unreachable(url, details.rsplit(": ", 1)[-1].rstrip("]"))
    if details == _CUT:
        return Unavailable(f"the connection to {url} was cut: send the request again")
    return from_status(code, details)


def from_http(status: int, body: bytes) -> ClientError:
    """The error of an HTTP answer that isn't 200; its body is `{"error": ...}` or an SSE event."""
    try:
        message = str(json.loads(body.strip().removeprefix(b"data:"))["error"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered HTTP {status}"
    return from_status(status, message)


def from_event(message: object) -> ClientError:
    """The error of a message inside a stream, which has no status but its mark."""
    return from_status("an error", str(message))


def unreachable(url: str, reason: str) -> Unavailable:
    """The error of a connection that couldn't be made."""
    return Unavailable(f"can't reach {url} ({reason}): start the server or give its url")


def malformed(reason: object) -> ServerError:
    """The error of an answer that can't be read."""
    return ServerError(f"the server's answer isn't a completion: {reason}")
