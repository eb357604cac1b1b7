"""The engine's heart: requests in, one step at a time, events out.

Comes in: requests and cancellations. Goes out: events. One thread owns it; time, sockets and
randomness are somebody else's (a seed comes in with `new_seed`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nanotriton.engine.events import Event, Failure, Key
from nanotriton.engine.kv_slots import KVSlots
from nanotriton.engine.prefix import PrefixCache
from nanotriton.engine.request import Request
from nanotriton.engine.sampler import needs_all_logits, pick
from nanotriton.engine.scheduler import Plan, Scheduler
from nanotriton.engine.sequence import Sequence
from nanotriton.errors import InvalidRequest, RunnerError
from nanotriton.prompt import keep_end, too_long, too_many_tokens
from nanotriton.runners.base import Candidates, Runner
from nanotriton.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Limits and switches of the engine; the defaults fit a small model on a few cores.

    A prompt enters in chunks of `prefill_chunk` tokens, the longest that running streams wait.
    `prefix_cache` starts prompts from what earlier ones left in the slots; with `isolate_users`
    only from what the same user left.
    """

    max_waiting: int = 256
    prefill_chunk: int = 128
    prefix_cache: bool = True
    isolate_users: bool = False

    def __post_init__(self) -> None:
        for name in ("max_waiting", "prefill_chunk"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} is {value}, the least is 1")


class Engine:
    """Continuous batching of requests over one runner's KV slots."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer,
        new_seed: Callable[[], int],
        options: EngineOptions | None = None,
    ) -> None:
        options = options or EngineOptions()
        self._runner = runner
        self._tokenizer = tokenizer
        self._new_seed = new_seed
        self._slots = KVSlots(runner.num_slots)
        self._prefixes = PrefixCache(self._slots, options.prefix_cache, options.isolate_users)
        self.scheduler = Scheduler(
            self._slots,
            self._prefixes,
            runner.num_candidates,
            options.max_waiting,
            options.prefill_chunk,
        )
        self._num_steps = 0
        self._num_tokens = 0
        self._num_looked_up = 0
        self._num_hits = 0

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def submit(self, request: Request) -> None:
        """Queue a request; raises InvalidRequest or Unavailable, and then forgets it."""
        request = self._fit(request)
        seed = request.settings.seed
        sequence = Sequence(
            request,
            self._tokenizer,
            self._runner.context,
            self._new_seed() if seed is None else seed,
        )
        self.scheduler.add(sequence)

    def cancel(self, key: Key) -> list[Event]:
        """End a request now, its slot free for the next step; no event if it is not there."""
        return self._end(lambda one: one.request.key == key)

    def cancel_peer(self, peer: bytes) -> list[Event]:
        """End every request of one peer."""
        return self._end(lambda one: one.request.key[0] == peer)

    def step(self) -> list[Event]:
        """Run the next batch, if there is one, and return what it brought."""
        plan = self.scheduler.plan()
        if plan is None:
            return []
        try:
            candidates = self._runner.run(plan.batch)
        except RunnerError as error:
            self._prefixes.clear()
            return [self._fail(one, error) for one in list(plan.touched)]
        self._num_steps += 1
        self.scheduler.commit(plan)
        return self._sample(plan, candidates)

    def stats(self) -> dict[str, int]:
        """Counts at this moment, and since the start."""
        return {
            "context": self._runner.context,
            "num_slots": self._runner.num_slots,
            "num_free_slots": self._slots.num_free,
            "num_running": len(self.scheduler.running),
            "num_waiting": len(self.scheduler.waiting),
            "num_steps": self._num_steps,
            "num_tokens": self._num_tokens,
            "prefix_lookup_tokens": self._num_looked_up,
            "prefix_hit_tokens": self._num_hits,
            "num_evictions": self._prefixes.num_evictions,
        }

    def _fit(self, request: Request) -> Request:
        """Check a request against the model, its prompt cut when it allows that."""
        context, vocab_size = self._runner.context, self._runner.vocab_size
        prompt, settings = request.prompt, request.settings
        if settings.max_tokens > context:
            raise too_many_tokens(settings.max_tokens, context)
        if not prompt:
            raise InvalidRequest("the prompt has no tokens: send at least one")
        if not 0 <= min(prompt) <= max(prompt) < vocab_size:
            raise InvalidRequest(
                f"token ids run from {min(prompt)} to {max(prompt)}, the vocabulary from 0 to "
                f"{vocab_size - 1}: use this model's tokenizer"
            )
        if len(prompt) <= context:
            return request
        if settings.truncate == "left":
            kept = keep_end(prompt, context, settings.max_tokens)
            return Request(request.key, tuple(kept), settings)
        raise too_long(f"{len(prompt)} tokens", context)

    def _sample(self, plan: Plan, candidates: Candidates) -> list[Event]:
        """Pick a token for each sampled sequence and let go of those that are finished."""
        events: list[Event] = []
        for sequence, token in zip(plan.sampled, self._pick(plan, candidates), strict=True):
            if token < 0:
                error = RunnerError("the model answered with NaN: its weights or input are broken")
                events.append(self._fail(sequence, error))
                continue
            if sequence.num_completed == 0:
                self._num_looked_up += len(sequence.request.prompt)
                self._num_hits += sequence.num_reused
            events.append(sequence.accept(int(token)))
            self._num_tokens += 1
            if sequence.finish_reason is not None:
                self.scheduler.remove(sequence)
        return events

    def _pick(self, plan: Plan, candidates: Candidates) -> NDArray[np.int64]:
        """Chosen token of each sampled row, (R,) int64; -1 where the logits are NaN."""
        sampled = plan.sampled
        if not sampled:
            return np.empty(0, np.int64)
        settings = [one.request.settings for one in sampled]
        uniforms = [one.next_uniform() for one in sampled]
        columns = pick(candidates.logits, settings, uniforms)
        tokens: NDArray[np.int64] = candidates.tokens[np.arange(len(sampled)), columns]
        if candidates.full is not None:
            num_candidates = candidates.logits.shape[1]
            for row, one in enumerate(settings):
                if needs_all_logits(one, num_candidates):
                    order = np.argsort(-candidates.full[row], kind="stable")
                    sorted_logits = candidates.full[row, order][None]
                    tokens[row] = order[pick(sorted_logits, [one], uniforms[row : row + 1])[0]]
        tokens[np.isnan(candidates.lse)] = -1
        return tokens

    def _fail(self, sequence: Sequence, error: RunnerError) -> Failure:
        self.scheduler.remove(sequence, is_sound=False)
        return Failure(sequence.request.key, error)

    def _end(self, is_wanted: Callable[[Sequence], bool]) -> list[Event]:
        ended = self.scheduler.find(is_wanted)
        for sequence in ended:
            self.scheduler.remove(sequence)
        return [sequence.cancel() for sequence in ended]
