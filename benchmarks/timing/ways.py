"""What two clients of one Triton are held against each other on: ways to ask, loads and figures.

Pure; knows nothing of either client.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, slots=True)
class Way:
    """A model of Triton's and the protocol that it is asked by."""

    model: str
    protocol: Literal["grpc", "http"]

    @property
    def is_stream(self) -> bool:
        """Whether answers come piece by piece."""
        return self.model == "completion_stream"

    @property
    def name(self) -> str:
        """What a table calls it."""
        return f"{self.model}, {'gRPC' if self.protocol == 'grpc' else 'HTTP'}"


WAYS = (Way("completion", "grpc"), Way("completion", "http"), Way("completion_stream", "grpc"))


@dataclass(frozen=True, slots=True)
class Load:
    """`value` users, each of whom asks again when he has his answer, or requests a second.

    For so many seconds.
    """

    kind: Literal["users", "rate"]
    value: float
    max_tokens: int
    seconds: float

    @property
    def name(self) -> str:
        """What a table calls it."""
        return f"{self.value:g} users" if self.kind == "users" else f"{self.value:g} a second"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a client measured: answers a second, milliseconds of whole answers and to first text.

    `first_ms` is of streams alone. `cpu_ms` is the client's own processor time for an answer, which
    a server on the same cores can't have.
    """

    per_s: float
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    first_ms: float | None
    cpu_ms: float


def figures_of(
    total_s: Sequence[float], first_s: Sequence[float], seconds: float, cpu_s: float
) -> Figures:
    """Of answers that took so long, all of them within `seconds`."""
    total_ms = np.array(total_s) * 1e3
    p50, p95, p99 = np.percentile(total_ms, (50, 95, 99)).tolist()
    return Figures(
        per_s=len(total_s) / seconds,
        mean_ms=float(total_ms.mean()),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        first_ms=float(np.median(first_s)) * 1e3 if first_s else None,
        cpu_ms=cpu_s / len(total_s) * 1e3,
    )
