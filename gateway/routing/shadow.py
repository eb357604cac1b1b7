"""Copies of requests for a backend on trial: sent beside the real one, their answers thrown away.

Comes in: a backend, a request and whose it is (for the tenant alone), and `send`, which asks the
backend and returns how many tokens came. Goes out: to `on_end`, what became of each copy. A copy is
charged to nobody: it isn't booked or limited, waits behind everything else in the engine (the
lowest priority), and of more than `max_running` at once the rest is left out, so that a slow shadow
takes nothing from the real traffic. Knows nothing of Triton.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Generic, Literal, Protocol, TypeVar

from clients import ClientError
from gateway.errors import GatewayError
from gateway.messages import Caller, CompletionRequest, Usage

LOWEST_PRIORITY = -8
_log = logging.getLogger(__name__)


class Named(Protocol):
    """A backend, of which only the name is known here."""

    @property
    def name(self) -> str:
        """Its name in the routes."""


B = TypeVar("B", bound=Named)
End = Literal["answered", "failed", "left_out"]


class Shadows(Generic[B]):
    """The copies under way, for one event loop.

    `on_end` is told the backend's name, how a copy ended and how many tokens it has.
    """

    def __init__(
        self,
        send: Callable[[B, Caller, CompletionRequest], Awaitable[Usage]],
        on_end: Callable[[str, End, int], object] = lambda *_: None,
        max_running: int = 8,
    ) -> None:
        self._send = send
        self._on_end = on_end
        self._max_running = max_running
        self._running: set[asyncio.Task[None]] = set()

    @property
    def num_running(self) -> int:
        """Copies that have no answer yet."""
        return len(self._running)

    def begin(self, backend: B, caller: Caller, request: CompletionRequest) -> None:
        """Send a copy, or leave it out when too many run; returns at once and never raises."""
        if self.num_running >= self._max_running:
            self._on_end(backend.name, "left_out", 0)
            return
        task = asyncio.create_task(self._ask(backend, caller, _copy(request)))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Cancel what is under way."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _ask(self, backend: B, caller: Caller, request: CompletionRequest) -> None:
        try:
            usage = await asyncio.wait_for(self._send(backend, caller, request), request.timeout_s)
        except (ClientError, GatewayError, asyncio.TimeoutError):
            self._on_end(backend.name, "failed", 0)
        except Exception:  # a task of its own: nobody else would tell
            self._on_end(backend.name, "failed", 0)
            _log.exception("a copy for the backend %s failed", backend.name)
        else:
            self._on_end(backend.name, "answered", usage.completion_tokens)


def _copy(request: CompletionRequest) -> CompletionRequest:
    return replace(
        request,
        id=f"shadow-{request.id}",
        settings={**request.settings, "priority": LOWEST_PRIORITY},
    )
