"""What the stages of the gateway hand each other: who asks, what is asked, what came of it.

Frozen dataclasses; nothing of FastAPI, tensors or a database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from clients.messages import TokenLogprob

BYTES_PER_TOKEN = 3  # of code: an estimate, rather too many tokens than too few
DEFAULT_MAX_TOKENS = 64  # the engine's own

Role = Literal["user", "admin"]
# How a request ended. "interrupted": the gateway died meanwhile, so its tokens aren't known.
Outcome = Literal[
    "ok", "cached", "typeahead", "superseded", "disconnected", "timeout", "refused", "failed",
    "interrupted",
]  # fmt: skip
# Nobody read such an answer to its end: its tokens are waste.
WASTED: frozenset[Outcome] = frozenset({"superseded", "disconnected", "timeout", "failed"})


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may use; None means the gateway's default, 0 means none at all."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # prompt and completion together
    max_concurrent: int | None = None
    soft_budget: float | None = None  # of the currency of the price table, a month
    hard_budget: float | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, proved; `tenant` is what caches and the engine's prefix cache are kept apart by."""

    key_id: str
    prefix: str  # shown to support and in logs, such as nt_ab12cd34
    tenant: str
    role: Role = "user"
    limits: KeyLimits = field(default_factory=KeyLimits)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request; of a whole answer, or of as much of it as was written."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One completion asked for, checked; `settings` are clients.Settings by name."""

    id: str  # cmpl-... : of the answer, the ledger's row, the logs and the trace
    prompt: str
    settings: Mapping[str, Any]
    stream: bool
    timeout_s: float
    model: str | None = None  # as asked for
    session: str | None = None  # of one typing person: a newer request supersedes
    user: str | None = None  # the caller's own person, for sticky routing

    @property
    def is_deterministic(self) -> bool:
        """Whether the same request always has the same answer: greedy, or drawn from a seed."""
        greedy = not self.settings.get("temperature")
        return greedy or self.settings.get("seed") is not None

    @property
    def most_usage(self) -> Usage:
        """What it may use at most: an estimate of its prompt, and all that it may write."""
        settings = self.settings
        told = self.prompt + (settings.get("suffix") or "")
        num_texts = settings.get("best_of") or settings.get("n") or 1
        max_tokens = settings.get("max_tokens") or DEFAULT_MAX_TOKENS
        num_prompt = len(told.encode(errors="replace")) // BYTES_PER_TOKEN + 1
        return Usage(num_prompt, num_texts * max_tokens)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: what caches keep."""

    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    usage: Usage
    logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """Which model version answered, for accounts, metrics and the answer's headers."""

    backend: str  # its name in the routes, such as stable or canary
    model: str
    version: str
    precision: str


@dataclass(frozen=True, slots=True)
class Times:
    """When a request came, had its first text and ended: seconds of time.monotonic."""

    received: float
    finished: float
    first_text: float | None = None
    started_at: float = 0.0  # when it was received, by the wall clock: Unix seconds

    @property
    def total_s(self) -> float:
        """From the request's arrival to its end."""
        return self.finished - self.received

    @property
    def first_text_s(self) -> float | None:
        """From the request's arrival to its first text (TTFT)."""
        return None if self.first_text is None else self.first_text - self.received

    def inter_token_s(self, num_tokens: int) -> float | None:
        """Mean time of a token after the first one; None where there are none."""
        if self.first_text is None or num_tokens < 2:
            return None
        return (self.finished - self.first_text) / (num_tokens - 1)


@dataclass(frozen=True, slots=True)
class Finished:
    """One request that has ended, however: what metrics, logs and traces are told."""

    request: CompletionRequest
    outcome: Outcome
    times: Times
    caller: Caller | None = None
    served: Served | None = None  # None when it was refused before a version was chosen
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0  # in the currency of the price table
    error: str | None = None  # the sentence that the caller was told
