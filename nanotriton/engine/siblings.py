"""All texts of one request: sequences that share one prompt, and what its client hears of them.

Comes in: a request, then its sequences' events. Goes out: the sequences, and the request's events.
The first sequence computes the prompt; the others, its followers, wait until that is done and start
from what its slot holds. Sequence i draws from its own stream of the seed, the first one from that
of a request with one text. Greedy texts are all equal: one sequence writes and n copies tell them.

With `best_of` above `n` nothing is told before all have ended: the n whose tokens have the largest
mean log-probability come out, best first. Knows nothing of slots or batches.
"""

import math
from dataclasses import replace

from nanotriton.engine.events import TokenEvent, Usage, Work, as_one
from nanotriton.engine.request import Request
from nanotriton.engine.sequence import Sequence
from nanotriton.tokenizer import Tokenizer


class Siblings:
    """The sequences of one request; `request` is as it was asked."""

    def __init__(
        self, request: Request, tokenizer: Tokenizer, context: int, seed: int, arrived_s: float
    ) -> None:
        settings = request.settings
        is_greedy = settings.temperature == 0
        self.request = request
        self._num_copies = settings.n if is_greedy else 1
        self._is_ranked = settings.num_texts > settings.n and not is_greedy
        if self._is_ranked and settings.logprobs is None:
            request = replace(request, settings=replace(settings, logprobs=0))
        self.sequences = [
            Sequence(request, tokenizer, context, seed, arrived_s, index=index)
            for index in range(1 if is_greedy else settings.num_texts)
        ]
        self._followers = self.sequences[1:]
        self._held: list[list[TokenEvent]] = [[] for _ in self.sequences]

    @property
    def first(self) -> Sequence:
        """The one that computes the prompt."""
        return self.sequences[0]

    @property
    def is_done(self) -> bool:
        """Whether every text has ended."""
        return all(one.finish_reason is not None for one in self.sequences)

    @property
    def is_over(self) -> bool:
        """Whether every text has ended and let go of its slot."""
        return self.is_done and all(one.slot is None for one in self.sequences)

    def release(self) -> list[Sequence]:
        """The followers, once: the prompt is computed, and they may have slots."""
        followers, self._followers = self._followers, []
        return followers

    def heir_of(self, sequence: Sequence) -> Sequence | None:
        """The follower that must go on in a slot, since no other one holds the prompt any more."""
        others = [one for one in self.sequences if one is not sequence]
        if any(one.slot is not None for one in others):
            return None
        return next((one for one in others if one.finish_reason is None), None)

    def join(self, event: TokenEvent) -> list[TokenEvent]:
        """What the client hears when a sequence brought `event`."""
        if not (event.tokens or event.text or event.finish_reason):
            return []  # it only wrote what was missing of the prompt
        if self._is_ranked:
            self._held[event.index].append(event)
            events = self._rank() if self.is_done else []
        else:
            copies = range(1, self._num_copies)
            events = [event, *(replace(event, index=index) for index in copies)]
        if self.is_done:
            events[-1] = replace(events[-1], usage=self._usage(), work=self._work())
        return events

    def end(self, reason: str) -> list[TokenEvent]:
        """End every text where it stands."""
        unended = [one for one in self.sequences if one.finish_reason is None]
        return [event for one in unended for event in self.join(one.end(reason))]

    def _rank(self) -> list[TokenEvent]:
        """The n best texts, each in one event."""
        texts = sorted((as_one(events) for events in self._held), key=_mean_logprob, reverse=True)
        is_told = self.request.settings.logprobs is not None
        return [
            replace(one, index=index, logprobs=one.logprobs if is_told else ())
            for index, one in enumerate(texts[: self.request.settings.n])
        ]

    def _usage(self) -> Usage:
        num_completed = sum(one.num_completed for one in self.sequences)
        return Usage(self.first.num_prompt, self._num_copies * num_completed)

    def _work(self) -> Work:
        """Of all texts together; of the prompt, what the first one reused."""
        all_work = [one.work for one in self.sequences]
        return Work(
            sum(one.num_steps for one in all_work),
            all_work[0].reused_tokens,
            sum(one.drafted_tokens for one in all_work),
            sum(one.accepted_tokens for one in all_work),
        )


def _mean_logprob(event: TokenEvent) -> float:
    """Nats a token; a text without a token is the worst."""
    logprobs = [one.logprob for one in event.logprobs]
    return sum(logprobs) / len(logprobs) if logprobs else -math.inf
