"""An event loop whose clock jumps to the next timer instead of waiting for it."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """It waits for no timer: it adds the time to `now`."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        assert ready or timeout is not None, "everybody waits for what nobody will do"
        if not ready:
            self.now += timeout or 0
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now


def run_virtually(scenario: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that talks to nobody outside; one that would hang fails."""
    loop = _Loop()
    try:
        return loop.run_until_complete(scenario)
    finally:
        loop.close()
