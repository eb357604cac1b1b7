"""What the server adds to the engine: one-token completions through every door, interleaved.

Comes in: a running server and its engine's socket. Goes out: a row of milliseconds for each way.
The engine's own time is the same request sent straight to the engine's process.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clients import CompletionClient
from nanotriton.engine.client import EngineClient
from nanotriton.engine.events import Event, is_final
from nanotriton.engine.protocol import newest_socket
from nanotriton.engine.request import Settings
from nanotriton.manifest import newest_version
from nanotriton.tokenizer import load_tokenizer


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one way to the same completion, and what it adds to the engine's own."""

    way: str
    median_ms: float
    p95_ms: float
    added_ms: float


def measure_latency(
    repository: Path, grpc_url: str, http_url: str, prompt: str, rounds: int
) -> list[Latency]:
    """Time each way once a round, in turn, so that all see the same noise; medians over rounds."""
    engine = EngineClient(newest_socket(repository))
    engine.wait_ready(5)
    ids = load_tokenizer(newest_version(repository)).encode(prompt)
    with CompletionClient(grpc_url) as grpc, CompletionClient(http_url, "http") as http:
        ways: dict[str, Callable[[], object]] = {
            "engine process": lambda: complete_directly(engine, ids),
            "completion, gRPC": lambda: grpc.complete(prompt, max_tokens=1),
            "completion, HTTP": lambda: http.complete(prompt, max_tokens=1),
            "completion_stream, gRPC": lambda: list(grpc.stream(prompt, max_tokens=1)),
            "completion_stream, HTTP": lambda: list(http.stream(prompt, max_tokens=1)),
        }
        for way in ways.values():
            way()
        times = {name: np.empty(rounds) for name in ways}
        for index in range(rounds):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                times[name][index] = (time.perf_counter() - started) * 1e3
    engine.close()
    own = times["engine process"]
    return [
        Latency(
            name,
            float(np.median(values)),
            float(np.percentile(values, 95)),
            float(np.median(values - own)),
        )
        for name, values in times.items()
    ]


def complete_directly(engine: EngineClient, ids: list[int]) -> None:
    """One token from the engine's process, without Triton."""
    done = threading.Event()

    def on_event(event: Event) -> None:
        if is_final(event):
            done.set()

    engine.submit(ids, Settings(max_tokens=1), on_event)
    if not done.wait(30):
        raise TimeoutError("the engine did not answer within 30 s")
