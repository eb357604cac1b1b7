"""What one gateway is told at its start, checked: where Triton is, where it listens, its limits.

Comes in: values of the command line. Goes out: a frozen Config, or a ConfigError that names the
option. Knows nothing of environment variables, files or FastAPI.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from gateway.errors import ConfigError
from gateway.identity.loopback import check_open
from gateway.identity.tokens import JwtConfig
from gateway.messages import KeyLimits

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.IGNORECASE)
_URL = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+):[0-9]{1,5}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BackendAddress:
    """One Triton: its name in the routes, and its gRPC front."""

    name: str
    url: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"--backend has the name {self.name!r:.80}: give 1 to 64 letters, digits and . _ -"
            )
        if not _URL.fullmatch(self.url) or int(self.url.rsplit(":", 1)[1]) > 65535:
            raise ConfigError(
                f"--backend {self.name} has the address {self.url!r:.80}: give HOST:PORT of "
                "Triton's gRPC front, such as 127.0.0.1:8001"
            )

    @classmethod
    def parse(cls, text: str) -> "BackendAddress":
        """Of NAME=HOST:PORT, or HOST:PORT alone, whose name is "stable"."""
        name, separator, url = text.rpartition("=")
        return cls(name if separator else "stable", url)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may be; a body beyond is refused before it is parsed."""

    max_body_bytes: int = 1 << 20
    max_json_depth: int = 16
    body_timeout_s: float = 10.0
    max_prompt_chars: int = 400_000  # of prompt and suffix each
    timeout_s: float = 60.0  # of a request that doesn't say
    max_timeout_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_json_depth", "body_timeout_s", "max_prompt_chars"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: give more than 0")
        if not 0 < self.timeout_s <= self.max_timeout_s <= 3600:
            raise ConfigError(
                f"the timeout of a request is {self.timeout_s:g} s and its limit "
                f"{self.max_timeout_s:g} s: give more than 0, at most the limit, and for that at "
                "most 3600"
            )


@dataclass(frozen=True, slots=True)
class Crowding:
    """How many requests Triton works on at once, and how many more may wait for it."""

    max_running: int = 32  # as many as the engine has slots by default
    max_waiting: int = 256

    def __post_init__(self) -> None:
        if self.max_running < 1 or self.max_waiting < 0:
            raise ConfigError(
                f"--max-running is {self.max_running} and --max-waiting {self.max_waiting}: give "
                "at least 1 and 0"
            )


@dataclass(frozen=True, slots=True)
class Caching:
    """Answers without the engine; 0 bytes turn both caches off."""

    max_bytes: int = 64 << 20
    ttl_s: float = 600.0

    def __post_init__(self) -> None:
        if self.max_bytes < 0 or not 0 < self.ttl_s <= 86_400:
            raise ConfigError(
                f"--cache-bytes is {self.max_bytes} and --cache-ttl-s {self.ttl_s:g}: give at "
                "least 0 bytes, and more than 0 to 86400 seconds"
            )


@dataclass(frozen=True, slots=True)
class Tracing:
    """Where spans go, over OTLP/HTTP; of requests without a trace one in `rate` is traced."""

    url: str | None = None
    rate: int = 1

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ConfigError(
                f"--trace-url is {self.url!a:.80}: give a collector's OTLP/HTTP address, such as "
                "http://localhost:4318/v1/traces"
            )
        if self.rate < 1:
            raise ConfigError(f"--trace-rate is {self.rate}: give 1 (every request) or more")


@dataclass(frozen=True, slots=True)
class Config:
    """A gateway; `is_open` serves whoever asks without a key, on loopback alone."""

    backends: tuple[BackendAddress, ...] = (BackendAddress("stable", "127.0.0.1:8001"),)
    model: str = "nanotriton"  # the name that callers ask for
    host: str = "127.0.0.1"
    port: int = 8080
    state: Path = Path("gateway-state")
    database: str | None = None  # a URL; None is SQLite in `state`
    redis: str | None = None  # a URL; None is each gateway for itself
    prices: Path | None = None
    is_open: bool = False
    jwt: JwtConfig | None = None
    log_prompts: bool = False
    is_insight_near: bool = True  # /metrics and /stats for private addresses, not for admins alone
    insight_token: str | None = field(default=None, repr=False)  # what a scraper shows instead
    drain_delay_s: float = 0.0  # between "not ready" and the closed door, for load balancers
    canary_ttl_s: float = 3.0
    max_connections: int = 2048
    limits: Limits = field(default_factory=Limits)
    key_limits: KeyLimits = field(default_factory=KeyLimits)  # of keys without their own
    crowding: Crowding = field(default_factory=Crowding)
    caching: Caching = field(default_factory=Caching)
    tracing: Tracing = field(default_factory=Tracing)

    def __post_init__(self) -> None:
        names = [one.name for one in self.backends]
        if not names or len({*names}) < len(names):
            raise ConfigError(
                f"--backend names {', '.join(names) or 'nothing'}: give at least one, each another"
            )
        if not _NAME.fullmatch(self.model):
            raise ConfigError(
                f"--model-name is {self.model!r:.80}: give 1 to 64 letters, digits and . _ -"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port is {self.port}: give 0 (any free one) to 65535")
        if self.is_open:
            check_open(self.host)
        if not 0 <= self.drain_delay_s <= 300:
            raise ConfigError(f"--drain-delay-s is {self.drain_delay_s:g}: give 0 to 300")
