"""People who ask for completions without a break, half of them streamed, and note what they got.

Comes in: an address, a key, how many people. Goes out: a Tally of every request: whole; refused or
ended with an error that asks to come again ("told"), which is then asked once more; or anything
else, "lost". Knows nothing of what happens to servers meanwhile.
"""

import asyncio
import json
import random
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from benchmarks.common.http_door import Door
from benchmarks.resilience.soak import PROMPTS

Outcome = Literal["whole", "told", "lost"]
RETRYABLE = ("service_unavailable", "overloaded_error")
ID = re.compile(rb'"id": ?"(cmpl-[0-9a-f]+)"')
AGAIN_S = 1.0
LEAVING_S = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, with moments of the monotonic clock."""

    began: float
    ended: float
    outcome: Outcome
    is_retry: bool
    id: str = ""  # as the ledger has it; "" when it never got an answer's first byte
    error: str = ""

    @property
    def took_s(self) -> float:
        """From its beginning to its end."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many ask for how much, and how long they look at an answer, at most."""

    num_people: int = 32
    max_tokens: int = 128
    pause_s: float = 1.0


@dataclass(slots=True)
class Tally:
    """What became of all requests so far."""

    asked: list[Asked] = field(default_factory=list)
    is_over: bool = False


async def ask_on(url: str, key: str, crowd: Crowd, tally: Tally) -> None:
    """Ask until the tally is over, and read the last answers."""
    people = [_Person(number, url, key, crowd, tally) for number in range(crowd.num_people)]
    await asyncio.gather(*(one.live() for one in people))


@contextmanager
def asking(url: str, key: str, crowd: Crowd) -> Iterator[Tally]:
    """They ask in a thread of their own as long as the block lasts."""
    tally = Tally()
    thread = threading.Thread(target=asyncio.run, args=(ask_on(url, key, crowd, tally),))
    thread.start()
    try:
        yield tally
    finally:
        tally.is_over = True
        thread.join()


class _Person:
    def __init__(self, number: int, url: str, key: str, crowd: Crowd, tally: Tally) -> None:
        self._draw = random.Random(number)
        self._door = Door(url, key)
        self._crowd = crowd
        self._tally = tally
        self._name = f"{secrets.token_hex(3)}-{number}"  # nobody asked the same before

    async def live(self) -> None:
        count = 0
        while not self._tally.is_over:
            await asyncio.sleep(self._draw.uniform(0, self._crowd.pause_s))
            body = self._body(count)
            if await self._ask(body, is_retry=False) == "told":
                await asyncio.sleep(AGAIN_S)
                await self._ask(body, is_retry=True)
            count += 1
        self._door.close()

    def _body(self, count: int) -> Mapping[str, object]:
        text = self._draw.choice(PROMPTS)
        return {
            "prompt": f"# {self._name}-{count}\n{text[: self._draw.randint(20, len(text))]}",
            "max_tokens": self._crowd.max_tokens,
            "ignore_eos": True,
            "temperature": 1.0,  # greedy texts repeat themselves, and come in a few steps
            "top_k": 50,
            "stream": self._draw.random() < 0.5,
            "timeout": LEAVING_S,
            "user": self._name,
        }

    async def _ask(self, body: Mapping[str, object], *, is_retry: bool) -> Outcome:
        began, said = time.monotonic(), bytearray()
        try:
            async with asyncio.timeout(2 * LEAVING_S):
                async with self._door.post("/v1/completions", body) as answer:
                    async for piece in answer.pieces():
                        said += piece
            error = fault_of(answer.status, answer.headers, bytes(said))
        except (OSError, EOFError, TimeoutError) as cut:
            error = Fault("lost", f"{type(cut).__name__}: {cut}")
        outcome = error.outcome if error else "whole"
        found = ID.search(said)
        asked = Asked(
            *(began, time.monotonic(), outcome, is_retry),
            id=found[1].decode() if found else "",
            error=error.message if error else "",
        )
        self._tally.asked.append(asked)
        return outcome


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an answer isn't whole."""

    outcome: Outcome
    message: str


def fault_of(status: int, headers: Mapping[str, str], body: bytes) -> Fault | None:
    """What is wrong with an answer that came to its end; None for a whole one."""
    is_stream = headers.get("content-type", "").startswith("text/event-stream")
    last = body.rstrip().rpartition(b"\n")[2].removeprefix(b"data: ")
    if status == 200 and is_stream and last == b"[DONE]":
        return None
    try:
        told = json.loads(last)
        if status == 200 and not is_stream and told["choices"][0]["finish_reason"]:
            return None
        kind, message = told["error"]["type"], told["error"]["message"]
    except (ValueError, KeyError, TypeError, IndexError):
        return Fault("lost", f"status {status} ends with {last[-80:]!r}")
    # Within a stream there is no header to say when: the words and the type are all.
    has_hint = is_stream or "retry-after" in headers
    outcome: Outcome = "told" if kind in RETRYABLE and has_hint else "lost"
    return Fault(outcome, f"{status} {kind}: {message}")
