"""Requests of many connections in, one model's steps, each connection's tokens out.

One thread opens the model and alone touches it; coroutines talk to it through a queue. Knows
nothing of text or of HTTP.
"""

import asyncio
import itertools
import logging
import queue
import threading
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from benchmarks.peers.serving import Model


class ModelError(Exception):
    """The model failed under a request."""


Deliver = Callable[["list[int] | ModelError"], None]


@dataclass(slots=True)
class _Ask:
    """A request for `num_left` tokens, and who gets them."""

    key: int
    prompt: Sequence[int]
    num_left: int
    deliver: Deliver


@dataclass(frozen=True, slots=True)
class _GiveUp:
    """Nobody waits for this one any more."""

    key: int


class Desk:
    """A model's thread."""

    def __init__(self, open_model: Callable[[], Model]) -> None:
        self._inbox: queue.SimpleQueue[_Ask | _GiveUp] = queue.SimpleQueue()
        self._keys = itertools.count()
        self._asked: dict[int, _Ask] = {}
        self._opened: Future[None] = Future()
        threading.Thread(target=self._work, args=(open_model,), daemon=True).start()

    def wait_open(self) -> None:
        """Until the model is there; raises what opening it raised."""
        self._opened.result()

    async def tokens(self, prompt: Sequence[int], num_new: int) -> AsyncGenerator[list[int], None]:
        """What each step brings of `num_new` tokens; left early it gives up. Raises ModelError."""
        loop = asyncio.get_running_loop()
        found: asyncio.Queue[list[int] | ModelError] = asyncio.Queue()
        key, num_left = next(self._keys), num_new

        def deliver(tokens: list[int] | ModelError) -> None:
            loop.call_soon_threadsafe(found.put_nowait, tokens)

        self._inbox.put(_Ask(key, prompt, num_new, deliver))
        try:
            while num_left:
                tokens = await found.get()
                if isinstance(tokens, ModelError):
                    raise tokens
                num_left -= len(tokens)
                yield tokens
        finally:
            if num_left:
                self._inbox.put(_GiveUp(key))

    def _work(self, open_model: Callable[[], Model]) -> None:
        try:
            model = open_model()
        except Exception as error:  # a thread's end: who waits for the model tells
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            while True:
                self._read_inbox(model)
                self._step(model)
        except Exception as error:  # a thread's loop: everybody is told, then and from now on
            logging.getLogger(__name__).exception("the model failed")
            self._refuse_all(ModelError(f"{type(error).__name__}: {error}"))

    def _read_inbox(self, model: Model) -> None:
        """All that came; waits only while there is nothing to do."""
        while not self._asked or not self._inbox.empty():
            message = self._inbox.get()
            if isinstance(message, _Ask):
                self._asked[message.key] = message
                model.add(message.key, message.prompt, message.num_left)
            elif self._asked.pop(message.key, None):
                model.cancel(message.key)

    def _step(self, model: Model) -> None:
        found: dict[int, list[int]] = defaultdict(list)
        for key, token in model.step():
            found[key].append(token)
        for key, tokens in found.items():
            ask = self._asked[key]
            ask.deliver(tokens)
            ask.num_left -= len(tokens)
            if not ask.num_left:
                del self._asked[key]

    def _refuse_all(self, error: ModelError) -> None:
        for ask in self._asked.values():
            ask.deliver(error)
        while True:
            message = self._inbox.get()
            if isinstance(message, _Ask):
                message.deliver(error)
