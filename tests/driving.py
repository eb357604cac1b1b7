"""Engines for tests: one over the fake runner driven by hand, and the real process supervised."""

import itertools
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nanotriton.engine.client import EngineClient
from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.events import Event, Failure, TokenEvent, Usage, is_final
from nanotriton.engine.request import Request, Settings
from nanotriton.engine.supervisor import EngineSupervisor
from nanotriton.errors import NanotritonError
from nanotriton.runners.fake import FakeRunner
from nanotriton.tokenizer import END_OF_TEXT, Tokenizer

PEER = b"peer"
# Nothing that could change a text: what every other way of running is held against.
PLAIN = MappingProxyType({"prefix_cache": False, "speculation": False})
# 97 tokens, as many as FakeRunner has: characters, words, and characters that are torn apart.
TABLE = (
    *(bytes([code]) for code in range(33, 103)),
    *(b" the", b" if", b"):\n", b"ab", b"ba", b"aba", b"bb", b" ", b"\n", b"==", b"!!"),
    *(bytes([byte]) for byte in "é→😀".encode()),
    *(b"x", b"y", b"z", b"xy", b"yz", b"\xff", b"def "),
)


def vocabulary(end_of_text: int | None = None) -> Tokenizer:
    """A tokenizer over TABLE, in which one token may be the end of text."""
    table = [b"" if token == end_of_text else raw for token, raw in enumerate(TABLE)]
    special = {} if end_of_text is None else {END_OF_TEXT: end_of_text}
    return Tokenizer(lambda text: [TABLE.index(char.encode()) for char in text], (*table,), special)


@dataclass(frozen=True)
class Outcome:
    """All that a request brought; `error` when it failed."""

    tokens: tuple[int, ...]
    text: str
    reason: str | None
    usage: Usage | None
    error: NanotritonError | None


def outcome_of(events: Sequence[Event]) -> Outcome:
    """Put a request's events together; the last one, and no other, must be final."""
    assert [is_final(one) for one in events] == [False] * (len(events) - 1) + [True]
    pieces = [one for one in events if not isinstance(one, Failure)]
    end = events[-1]
    return Outcome(
        tuple(token for one in pieces for token in one.tokens),
        "".join(one.text for one in pieces),
        None if isinstance(end, Failure) else end.finish_reason,
        None if isinstance(end, Failure) else end.usage,
        end.error if isinstance(end, Failure) else None,
    )


def outcomes_of(events: Sequence[Event]) -> list[Outcome]:
    """A request's texts by number, each with the usage of the whole request."""
    end = events[-1]
    assert not isinstance(end, Failure)
    by_index: dict[int, list[TokenEvent]] = defaultdict(list)
    for event in events:
        assert isinstance(event, TokenEvent)
        by_index[event.index].append(event)
    assert [is_final(one) for one in events] == [False] * (len(events) - 1) + [True]
    return [
        outcome_of([*pieces[:-1], replace(pieces[-1], usage=end.usage)])
        for _, pieces in sorted(by_index.items())
    ]


class Drive:
    """An engine over a FakeRunner and everything that it said, by request number.

    A seed that a request leaves out is 1 for the first request, 2 for the second, and so on.
    """

    def __init__(
        self,
        end_of_text: int | None = None,
        max_waiting: int = 256,
        prefill_chunk: int = 128,
        options: Mapping[str, bool] = MappingProxyType({}),
        **runner: Any,
    ) -> None:
        self.runner = FakeRunner(**runner)
        limits = EngineOptions(max_waiting, prefill_chunk, **options)
        seeds = itertools.count(1)
        tokenizer = vocabulary(end_of_text)
        self.now_s = 0.0
        self.engine = Engine(
            self.runner, tokenizer, lambda: next(seeds), lambda: self.now_s, limits
        )
        self.events: dict[int, list[Event]] = defaultdict(list)
        self._numbers = itertools.count()

    def submit(self, prompt: Sequence[int], **settings: Any) -> int:
        """Queue a request; its number."""
        number = next(self._numbers)
        self.engine.submit(Request((PEER, number), tuple(prompt), Settings(**settings)))
        return number

    def step(self) -> list[int]:
        """One step; numbers of the requests that it brought something."""
        return self._note(self.engine.step())

    def cancel(self, number: int) -> list[int]:
        """Cancel a request; numbers of those that ended."""
        return self._note(self.engine.cancel((PEER, number)))

    def finish(self) -> None:
        """Step until nothing is left to do."""
        while self.engine.has_work:
            self.step()

    def outcome(self, number: int) -> Outcome:
        """What became of a request that has ended."""
        return outcome_of(self.events[number])

    def outcomes(self, number: int) -> list[Outcome]:
        """What became of each text of a request that has ended."""
        return outcomes_of(self.events[number])

    def _note(self, events: list[Event]) -> list[int]:
        for event in events:
            self.events[event.key[1]].append(event)
        return [event.key[1] for event in events]


def complete_alone(
    prompt: Sequence[int],
    end_of_text: int | None = None,
    context: int = 64,
    echo: float = 0.0,
    **settings: Any,
) -> Outcome:
    """What a request brings in a plain engine of its own, its prompt entering at once."""
    drive = Drive(end_of_text, num_slots=1, context=context, echo=echo, options=PLAIN)
    number = drive.submit(prompt, **settings)
    drive.finish()
    return drive.outcome(number)


def cut_at_first_stop(text: str, stops: Sequence[str]) -> str | None:
    """A text up to its first stop string, found letter by letter; None when it has none."""
    for end in range(1, len(text) + 1):
        if ended := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, ended))]
    return None


class Inbox:
    """Collects one request's events on a client's thread; what `submit` takes as `on_event`."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._started = threading.Event()
        self._ended = threading.Event()

    def __call__(self, event: Event) -> None:
        """Note an event."""
        self.events.append(event)
        self._started.set()
        if is_final(event):
            self._ended.set()

    def wait_started(self, timeout_s: float = 20.0) -> None:
        """Wait for the first event."""
        assert self._started.wait(timeout_s), "the request did not start"

    def wait(self, timeout_s: float = 20.0) -> Outcome:
        """Wait for the end."""
        assert self._ended.wait(timeout_s), f"no final event after {len(self.events)} events"
        return outcome_of(self.events)


@dataclass
class EngineService:
    """A supervised engine process, the lines of its supervisor's log, and clients for it."""

    path: Path
    supervisor: EngineSupervisor
    log: list[str]
    _stack: ExitStack = field(repr=False)

    def client(self) -> EngineClient:
        """A connected client, closed with the service."""
        client = EngineClient(self.path)
        self._stack.callback(client.close)
        client.wait_ready(20)
        return client


@contextmanager
def engine_service(folder: Path, *arguments: str) -> Iterator[EngineService]:
    """Run the engine of an exported version."""
    with ExitStack() as stack:
        # Not pytest's folder: a UNIX socket's path has at most 107 bytes.
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nt-")), "engine.sock")
        log: list[str] = []
        words = [str(folder), "--socket", str(path), "--threads", "1", *arguments]
        supervisor = EngineSupervisor(words, log.append)
        stack.callback(supervisor.stop)
        supervisor.start()
        yield EngineService(path, supervisor, log, stack)


def processes_with(word: str) -> list[int]:
    """Ids of the running processes whose command line holds a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it ended just now
            if word.encode() in command:
                found.append(int(entry.name))
    return found
