"""What the gateway refuses or fails with, as one tree; each has its HTTP status and OpenAI type.

    GatewayError                 500 server_error
    ├── ConfigError              an option, file or database that `serve` can't start with
    ├── InvalidRequest           400 invalid_request_error
    │   ├── NotFound             404
    │   ├── SlowBody             408
    │   ├── Conflict             409                         somebody else changed it meanwhile
    │   ├── TooLarge             413
    │   └── WrongContentType     415
    ├── Unauthorized             401 authentication_error
    ├── Forbidden                403 permission_error
    ├── RateLimited              429 rate_limit_error        Retry-After
    │   ├── Busy                 429 overloaded_error        the gateway's own queue is full
    │   └── BudgetSpent          429 insufficient_quota
    ├── Superseded               409 superseded              a newer request of the session came
    ├── Disconnected             499 disconnected            nobody is left to be told
    ├── Unavailable              503 service_unavailable     Retry-After; Triton or the breaker
    └── Timeout                  504 timeout_error

Messages are one sentence with the value seen, the limit and the mend; none holds a secret, a prompt
or a path. Knows nothing of FastAPI.
"""

from collections.abc import Mapping
from typing import ClassVar


class GatewayError(Exception):
    """Anything that keeps a request from its answer."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param  # the field of the request that is wrong
        self.code = code  # what a program tells apart, such as "invalid_api_key"
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The answer's JSON, as OpenAI's clients read it."""
        told = {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self.code,
        }
        return {"error": told}


class ConfigError(GatewayError):
    """What the gateway was started with can't be used; for whoever runs it, not for callers."""


class InvalidRequest(GatewayError):
    """The request can't be served as it is; sending it again won't help."""

    status = 400
    type = "invalid_request_error"


class NotFound(InvalidRequest):
    """What the path or the `model` names isn't there."""

    status = 404


class SlowBody(InvalidRequest):
    """A body that did not arrive in time."""

    status = 408


class WrongContentType(InvalidRequest):
    """A body that doesn't say that it is JSON."""

    status = 415


class Conflict(InvalidRequest):
    """The change was made to a state that is no longer the newest."""

    status = 409


class TooLarge(InvalidRequest):
    """A body beyond the limit, refused before it is parsed."""

    status = 413


class Unauthorized(GatewayError):
    """No key or token, or one that isn't good."""

    status = 401
    type = "authentication_error"


class Forbidden(GatewayError):
    """A good key whose role may not do this."""

    status = 403
    type = "permission_error"


class RateLimited(GatewayError):
    """More than this key may ask for; `retry_after_s` says when again."""

    status = 429
    type = "rate_limit_error"


class Busy(RateLimited):
    """The gateway's own queue is full."""

    type = "overloaded_error"


class BudgetSpent(RateLimited):
    """The key's hard monthly budget is spent."""

    type = "insufficient_quota"


class Superseded(GatewayError):
    """A newer request of the same session took this one's place."""

    status = 409
    type = "superseded"


class Disconnected(GatewayError):
    """The caller went away; accounts are told, and nobody else."""

    status = 499
    type = "disconnected"


class Unavailable(GatewayError):
    """Triton can't be reached or can't take the request now; the same may work later."""

    status = 503
    type = "service_unavailable"


class Timeout(GatewayError):
    """The deadline passed before the answer was whole."""

    status = 504
    type = "timeout_error"
