"""What the engine did, counted: requests, tokens and times in; samples for a metrics page out.

Comes in: what was submitted, what every step brought, and the time, as arguments. Goes out: a list
of samples, all of them counters that start at 0 with the engine. Knows nothing of Triton, of
Prometheus or of a clock.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nanotriton.engine.events import Event, Failure, Key, Times, is_final

# A sample's labels as pairs, so that they can be a key and cross the socket.
Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]

STEP_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
REQUEST_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


@dataclass(slots=True)
class Histogram:
    """Counts by upper bound, in seconds; as Prometheus has them, but for one: not cumulated yet."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def samples(self, name: str, labels: Labels = ()) -> list[Sample]:
        """Its `_bucket`, `_sum` and `_count` samples, the buckets cumulated."""
        found: list[Sample] = []
        below = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            below += count
            le = "+Inf" if bound == float("inf") else f"{bound:g}"
            found.append((f"{name}_bucket", (*labels, ("le", le)), below))
        return [*found, (f"{name}_sum", labels, self.total), (f"{name}_count", labels, below)]


@dataclass(slots=True)
class _Life:
    """One request under way; times in seconds on the caller's clock, the newest of each text."""

    submitted_s: float
    started_s: float | None = None
    first_token_s: float | None = None
    newest_s: dict[int, float] = field(default_factory=dict)
    num_tokens: int = 0


class Meter:
    """Counts for one engine, from its start on."""

    def __init__(self, unix_ns: int = 0) -> None:
        """`unix_ns` is the Unix time at second 0 of the caller's clock."""
        self._unix_ns = unix_ns
        self._lives: dict[Key, _Life] = {}
        self._times: dict[Key, Times] = {}
        self._requests: Counter[str] = Counter()
        self._counts: Counter[str] = Counter(prompt=0, completion=0, wasted=0)
        self._queue = Histogram(REQUEST_BOUNDS_S)
        self._first_token = Histogram(REQUEST_BOUNDS_S)
        self._inter_token = Histogram(STEP_BOUNDS_S)
        self._duration = Histogram(REQUEST_BOUNDS_S)
        self._steps: dict[str, Histogram] = {}
        self._graphs: Counter[str] = Counter()

    def submitted(self, key: Key, num_prompt_tokens: int, now_s: float) -> None:
        """Note a request that was admitted to the queue."""
        self._lives[key] = _Life(now_s)
        self._counts["prompt"] += num_prompt_tokens

    def refused(self, status: str) -> None:
        """Note a request that was not admitted."""
        self._requests[f"refused:{status}"] += 1

    def stepped(
        self,
        kind: str,
        seconds: float,
        running: Iterable[Key],
        events: Sequence[Event],
        now_s: float,
    ) -> None:
        """Note a step of `seconds` that ended at `now_s`, who has a slot, and what it brought."""
        if kind not in self._steps:
            self._steps[kind] = Histogram(STEP_BOUNDS_S)
        self._steps[kind].observe(seconds)
        for key in running:
            self._start(key, now_s - seconds)
        self.happened(events, now_s)

    def answered(self, graph: str) -> None:
        """Note which graph answered a step, if any did."""
        if graph:
            self._graphs[graph] += 1

    def happened(self, events: Sequence[Event], now_s: float) -> None:
        """Note events, of a step or of a cancellation."""
        for event in events:
            life = self._lives.get(event.key)
            if life is None:
                continue
            if not isinstance(event, Failure) and event.tokens:
                self._start(event.key, now_s)
                self._count_tokens(life, event.index, len(event.tokens), now_s)
            if is_final(event):
                self._finish(event, life, now_s)

    def dropped(self, peer: bytes, outcome: str) -> None:
        """Note that a peer's requests ended without a word, since nobody listens any more."""
        for key in [key for key in self._lives if key[0] == peer]:
            self._requests[outcome] += 1
            self._counts["wasted"] += self._lives.pop(key).num_tokens

    def take_times(self, key: Key) -> Times | None:
        """When a request that ended just now did what; told once."""
        return self._times.pop(key, None)

    def samples(self) -> list[Sample]:
        """Everything counted so far."""
        found: list[Sample] = [
            ("requests_total", (("outcome", outcome),), count)
            for outcome, count in self._requests.items()
        ]
        found += [("tokens_total", (("kind", kind),), n) for kind, n in self._counts.items()]
        found += [("graph_steps_total", (("graph", name),), n) for name, n in self._graphs.items()]
        for name, histogram in (
            ("queue_seconds", self._queue),
            ("time_to_first_token_seconds", self._first_token),
            ("inter_token_seconds", self._inter_token),
            ("request_seconds", self._duration),
        ):
            found += histogram.samples(name)
        for kind, histogram in self._steps.items():
            found += histogram.samples("step_seconds", (("kind", kind),))
        return found

    def _start(self, key: Key, at_s: float) -> None:
        life = self._lives.get(key)
        if life is not None and life.started_s is None:
            life.started_s = at_s
            self._queue.observe(max(at_s - life.submitted_s, 0.0))

    def _count_tokens(self, life: _Life, index: int, num_tokens: int, now_s: float) -> None:
        """Several tokens of one step came together: the gap before them is shared out."""
        if not life.newest_s:
            life.first_token_s = now_s
            self._first_token.observe(now_s - life.submitted_s)
        elif index in life.newest_s:
            for _ in range(num_tokens):
                self._inter_token.observe((now_s - life.newest_s[index]) / num_tokens)
        life.newest_s[index] = now_s
        life.num_tokens += num_tokens
        self._counts["completion"] += num_tokens

    def _finish(self, event: Event, life: _Life, now_s: float) -> None:
        del self._lives[event.key]
        if not isinstance(event, Failure) and event.usage:
            unheard = event.usage.completion_tokens - life.num_tokens  # of texts that lost
            self._counts["completion"] += unheard
            self._counts["wasted"] += unheard
        outcome = "failed" if isinstance(event, Failure) else str(event.finish_reason)
        self._requests[outcome] += 1
        self._duration.observe(now_s - life.submitted_s)
        if outcome in ("failed", "cancelled"):
            self._counts["wasted"] += life.num_tokens
        self._times[event.key] = Times(
            self._at(life.submitted_s),
            None if life.started_s is None else self._at(life.started_s),
            None if life.first_token_s is None else self._at(life.first_token_s),
            self._at(now_s),
        )

    def _at(self, seconds: float) -> int:
        return self._unix_ns + int(seconds * 1e9)
