"""The engine's heart: requests in, one step at a time, events out.

Comes in: requests and cancellations. Goes out: events. One thread owns it; time, sockets and
randomness are somebody else's (a seed comes in with `new_seed`, the time with `clock`).
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from nanotriton.engine.costs import StepCosts
from nanotriton.engine.counts import Counts
from nanotriton.engine.events import Event, Failure, Key, TokenEvent
from nanotriton.engine.kv_slots import KVSlots
from nanotriton.engine.picking import Picked, Sampled, pick_tokens
from nanotriton.engine.plan import Plan
from nanotriton.engine.prefix import PrefixCache
from nanotriton.engine.request import Request
from nanotriton.engine.scheduler import Scheduler
from nanotriton.engine.sequence import Sequence
from nanotriton.engine.siblings import Siblings
from nanotriton.errors import InvalidRequest, RunnerError
from nanotriton.healing import Healer
from nanotriton.infill import cursor_span
from nanotriton.prompt import hole_too_long, keep_end, too_long, too_many_tokens
from nanotriton.runners.base import Candidates, Runner
from nanotriton.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Limits and switches of the engine; the defaults fit a small model on a few cores.

    A prompt enters in chunks of at most `prefill_chunk` tokens, smaller ones while streams run.
    `prefix_cache` starts prompts from what earlier ones left in the slots; with `isolate_users`
    only from what the same user left. `speculation` verifies drafts where that is faster. None of
    them changes a text.
    """

    max_waiting: int = 256
    prefill_chunk: int = 256
    prefix_cache: bool = True
    speculation: bool = True
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
        clock: Callable[[], float],
        options: EngineOptions | None = None,
    ) -> None:
        options = options or EngineOptions()
        self._runner = runner
        self._tokenizer = tokenizer
        self._healer = Healer(tokenizer)
        self._new_seed = new_seed
        self._clock = clock  # seconds, from any beginning
        self._costs = StepCosts()
        self._counts = Counts()
        self._requests: dict[Key, Siblings] = {}  # all that have not ended
        self._slots = KVSlots(runner.num_slots)
        self._prefixes = PrefixCache(self._slots, options.prefix_cache, options.isolate_users)
        self.scheduler = Scheduler(
            self._slots,
            self._prefixes,
            self._costs,
            num_candidates=runner.num_candidates,
            max_waiting=options.max_waiting,
            prefill_chunk=options.prefill_chunk,
            speculation=options.speculation,
        )
        self.last_step = ""  # the kind of the step just run; "" when there was none
        self.last_graph = ""  # and the graph that answered it, when the runner names one

    @property
    def has_work(self) -> bool:
        """Whether `step` has anything to do."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def submit(self, request: Request) -> None:
        """Queue a request; raises InvalidRequest or Unavailable, and then forgets it."""
        request = self._heal(self._fit(request))
        seed = request.settings.seed
        siblings = Siblings(
            request,
            self._tokenizer,
            self._runner.context,
            self._new_seed() if seed is None else seed,
            self._clock(),
        )
        self.scheduler.add(siblings.first)
        self._requests[request.key] = siblings

    def cancel(self, key: Key) -> list[Event]:
        """End a request now, its slots free for the next step; no event if it is not there."""
        return self._end([self._requests[key]] if key in self._requests else [], "cancelled")

    def cancel_peer(self, peer: bytes) -> list[Event]:
        """End every request of one peer."""
        return self._end(
            [one for key, one in self._requests.items() if key[0] == peer], "cancelled"
        )

    def step(self) -> list[Event]:
        """Run the next batch, if there is one, and return what it brought."""
        now_s = self._clock()
        late = [one for one in self._requests.values() if one.first.deadline_s <= now_s]
        overdue = self._end(late, "timeout")
        plan = self.scheduler.plan(now_s)
        self.last_step = plan.kind if plan else ""
        if plan is None:
            return overdue
        try:
            candidates = self._run(plan)
        except RunnerError as error:
            return overdue + self._fail_run(plan, error)
        return overdue + self._commit(plan, pick_tokens(plan.sampled, candidates, self._healer))

    def stats(self) -> dict[str, int]:
        """Counts at this moment, and since the start (see `Counts`)."""
        return {
            "context": self._runner.context,
            "num_slots": self._runner.num_slots,
            "num_free_slots": self._slots.num_free,
            "num_running": len(self._requests) - self.scheduler.waiting.num_requests,
            "num_waiting": self.scheduler.waiting.num_requests,
            "num_cached_tokens": sum(one.num_cached for one in self.scheduler.running),
            "kv_cache_bytes": self._runner.cache_bytes,
            "native_attention": int(self._runner.has_native_attention),
            **asdict(self._counts),
            "num_evictions": self._prefixes.num_evictions,
        }

    def _fit(self, request: Request) -> Request:
        """Check a request against the model, its prompt cut when it allows that."""
        if request.key in self._requests:
            raise InvalidRequest(f"request {request.key[1]} is under way: give each its own number")
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
        if outside := [token for token, _ in settings.logit_bias if not 0 <= token < vocab_size]:
            raise InvalidRequest(
                f"logit_bias names token {outside[0]}, the vocabulary runs from 0 to "
                f"{vocab_size - 1}: use this model's token ids"
            )
        if len(prompt) <= context:
            return request
        if settings.truncate == "left":
            if len(cursor_span(prompt, self._tokenizer.special_tokens)) < len(prompt):
                raise hole_too_long(len(prompt), context)
            kept = keep_end(prompt, context, settings.max_tokens)
            return Request(request.key, tuple(kept), settings)
        raise too_long(f"{len(prompt)} tokens", context)

    def _heal(self, request: Request) -> Request:
        """Take the end of a prompt back that its text may not have had."""
        if not request.settings.token_healing:
            return request
        healed = self._healer.take_back(request.prompt)
        return replace(request, prompt=healed.prompt, missing=healed.missing)

    def _run(self, plan: Plan) -> Candidates:
        """Run a plan's batch and learn what such a batch costs."""
        started_s = self._clock()
        self.last_graph = ""
        candidates = self._runner.run(plan.batch)
        self.last_graph = candidates.graph
        self._counts.num_steps += 1
        if not plan.batch.copies:
            self._learn(plan, self._clock() - started_s)
        return candidates

    def _learn(self, plan: Plan, seconds: float) -> None:
        num_rows, num_chunked = plan.batch.num_decoded, plan.batch.num_chunked
        if plan.kind == "decode":
            self._costs.note_decode(num_rows, seconds)
        elif plan.kind == "verify":
            self._costs.note_verify(num_rows + 1, num_chunked - 1, seconds)
        else:
            self._costs.note_prompt(num_rows, num_chunked, seconds)

    def _commit(self, plan: Plan, picked: list[Picked]) -> list[Event]:
        """Give each sampled sequence its tokens and let go of those that are finished."""
        events: list[Event] = [
            event
            for sampled, one in zip(plan.sampled, picked, strict=True)
            for event in self._accept(sampled, one)
        ]
        self.scheduler.commit(plan)
        for sampled, one in zip(plan.sampled, picked, strict=True):
            if sampled.sequence.slot is None:
                continue  # a sibling that failed in this step took it along
            siblings = self._requests[sampled.sequence.request.key]
            for follower in siblings.release():
                self.scheduler.waiting.add(follower)
            if sampled.sequence.finish_reason is not None:
                self._leave(sampled.sequence, siblings)
            elif one.is_broken:
                error = RunnerError("the model answered with NaN: its weights or input are broken")
                events.append(self._fail(siblings, error))
        return events

    def _accept(self, sampled: Sampled, picked: Picked) -> list[TokenEvent]:
        if not picked.tokens:
            return []
        event = sampled.sequence.accept(picked.tokens, picked.logprobs, sampled.draft)
        self._counts.note(sampled, event.tokens)
        return self._requests[event.key].join(event)

    def _leave(self, sequence: Sequence, siblings: Siblings) -> None:
        """Let go of a finished sequence; its slot, unless a sibling can go on nowhere else."""
        if heir := siblings.heir_of(sequence):
            self.scheduler.hand_over(sequence, heir)
        else:
            self.scheduler.remove(sequence)
        if siblings.is_over:
            del self._requests[siblings.request.key]

    def _fail_run(self, plan: Plan, error: RunnerError) -> list[Event]:
        """Fail what a broken run was for, and keep nothing for later that it might have touched.

        Decode rows beside a chunk take their step again: the fault is the newcomer's, or it shows
        once more.
        """
        self._prefixes.clear()
        copied = {copy.target for copy in plan.batch.copies}
        copying = [one for one in self.scheduler.running if one.slot in copied]
        failed = [plan.chunked] if plan.chunked else plan.decoded
        keys = dict.fromkeys(one.request.key for one in (*failed, *copying))
        return [self._fail(self._requests[key], error) for key in keys]

    def _fail(self, siblings: Siblings, error: RunnerError) -> Failure:
        self._drop(siblings, is_sound=False)
        return Failure(siblings.request.key, error)

    def _end(self, ended: Iterable[Siblings], reason: str) -> list[Event]:
        events: list[Event] = []
        for siblings in ended:
            self._drop(siblings)
            events += siblings.end(reason)
        return events

    def _drop(self, siblings: Siblings, is_sound: bool = True) -> None:
        """Forget a request, and take its sequences out wherever they are."""
        del self._requests[siblings.request.key]
        for sequence in siblings.sequences:
            self.scheduler.remove(sequence, is_sound)
