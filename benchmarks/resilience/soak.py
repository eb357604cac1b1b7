"""Many clients at once, unary and streaming mixed: does anything fail, do the two doors agree?

Comes in: a running server, a number of clients and a time. Goes out: counts, latencies and every
difference. Each client sends a prompt through both doors, in random order, with the same settings
and seed, and compares the two texts.
"""

import random
import threading
import time
from dataclasses import dataclass, field

import numpy as np

from clients import ClientError, CompletionClient, Settings

# Beginnings of real code; a client cuts them at random, so that lengths differ.
PROMPTS = (
    "import os\nimport sys\n\n\ndef main(argv=None):\n    parser = argparse.ArgumentParser(",
    "class Queue:\n    def __init__(self, maxsize=0):\n        self.maxsize = maxsize\n\n    def ",
    "def read(self, size=-1):\n    if self.closed:\n        raise ValueError(",
    "    for name, value in sorted(self.items()):\n        if name.startswith(",
    "try:\n    import json\nexcept ImportError:\n    json = None\n\n\ndef dumps(obj, *, ",
)


@dataclass
class Soak:
    """What happened; `differences` are pairs of doors that did not agree."""

    num_pairs: int = 0
    num_tokens: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    first_chunk_ms: list[float] = field(default_factory=list)
    unary_ms: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def describe(self) -> dict[str, float]:
        """The figures that a report shows."""
        return {
            "pairs": self.num_pairs,
            "errors": len(self.errors),
            "differences": len(self.differences),
            "tokens_per_s": round(self.num_tokens / self.seconds, 1),
            "median_first_chunk_ms": round(float(np.median(self.first_chunk_ms)), 1),
            "median_unary_ms": round(float(np.median(self.unary_ms)), 1),
        }


def run_soak(
    grpc_url: str, http_url: str, num_clients: int, seconds: float, max_tokens: int
) -> Soak:
    """Let `num_clients` threads, every other one over HTTP, send pairs for `seconds`."""
    soak = Soak()
    started = time.monotonic()
    with CompletionClient(grpc_url) as grpc, CompletionClient(http_url, "http") as http:
        clients = [_Client((grpc, http)[index % 2], index, soak) for index in range(num_clients)]
        threads = [
            threading.Thread(target=client.run, args=(started + seconds, max_tokens))
            for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    soak.seconds = time.monotonic() - started
    return soak


class _Client:
    """One of the many; what it sends follows from its seed."""

    def __init__(self, client: CompletionClient, seed: int, soak: Soak) -> None:
        self._client = client
        self._random = random.Random(seed)
        self._soak = soak

    def run(self, deadline: float, max_tokens: int) -> None:
        """Send pairs until the deadline."""
        choice = self._random
        while time.monotonic() < deadline:
            text = choice.choice(PROMPTS)
            prompt = text[: choice.randint(1, len(text))]
            settings: Settings = {
                "max_tokens": choice.randint(1, max_tokens),
                "temperature": choice.choice((0.0, 0.8)),
                "seed": choice.randint(0, 2**31),
            }
            try:
                self._send_pair(prompt, settings)
            except ClientError as error:
                with self._soak.lock:
                    self._soak.errors.append(f"{type(error).__name__}: {error}")

    def _send_pair(self, prompt: str, settings: Settings) -> None:
        """Ask both doors, in random order, and note whether they agree."""
        if stream_first := self._random.random() < 0.5:
            streamed, first_ms = self._stream(prompt, settings)
        started = time.perf_counter()
        answer = self._client.complete(prompt, **settings)
        unary_ms = (time.perf_counter() - started) * 1e3
        if not stream_first:
            streamed, first_ms = self._stream(prompt, settings)
        soak = self._soak
        with soak.lock:
            soak.num_pairs += 1
            soak.num_tokens += 2 * answer.completion_tokens
            soak.first_chunk_ms.append(first_ms)
            soak.unary_ms.append(unary_ms)
            if streamed != answer.text:
                difference = f"{prompt!r}, {settings}: {streamed!r} != {answer.text!r}"
                soak.differences.append(difference)

    def _stream(self, prompt: str, settings: Settings) -> tuple[str, float]:
        """The streamed text, and milliseconds until its first chunk."""
        started = time.perf_counter()
        first_ms: float | None = None
        text = ""
        with self._client.stream(prompt, **settings) as chunks:
            for chunk in chunks:
                first_ms = first_ms or (time.perf_counter() - started) * 1e3
                text += chunk.text
        return text, first_ms or 0.0
