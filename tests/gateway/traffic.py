"""Callers that ask on and on while a test breaks something beneath them."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from running import wait_until

from tests.gateway.keyed import KeyedGateway


class Traffic:
    """What was answered so far; whatever isn't an answer stands in `errors`."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response] = []
        self.errors: list[httpx.HTTPError] = []
        self.stopped = threading.Event()

    def wait(self, count: int, timeout_s: float = 30) -> None:
        """Until so many more are answered."""
        goal = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= goal, timeout_s)

    def statuses(self, since: int = 0) -> Counter[int]:
        """How often each status came."""
        return Counter(one.status_code for one in self.answers[since:])

    def ids(self) -> list[str]:
        """Of the answers that are whole."""
        return sorted(one.json()["id"] for one in self.answers if one.status_code == 200)


@contextmanager
def traffic(door: KeyedGateway, key: str, callers: int = 2, **body: object) -> Iterator[Traffic]:
    """Callers with this key, each asking for something else every time; ended with the block."""
    seen = Traffic()

    def ask(caller: int) -> None:
        number = 0
        while not seen.stopped.wait(0.02):
            number += 1
            try:
                seen.answers.append(door.complete(key, prompt=f"def f{caller}_{number}(", **body))
            except httpx.HTTPError as error:
                seen.errors.append(error)

    threads = [threading.Thread(target=ask, args=(caller,)) for caller in range(callers)]
    for one in threads:
        one.start()
    try:
        yield seen
    finally:
        seen.stopped.set()
        for one in threads:
            one.join()
