"""One text of a request while it is worked on: its tokens, its slot, its text so far.

Comes in: a request and the tokens picked for it. Goes out: token events. Knows nothing of other
sequences.
"""

import math
import operator
from collections.abc import Iterable
from collections.abc import Sequence as Tokens
from dataclasses import replace

import numpy as np

from nanotriton.engine.drafts import Drafter
from nanotriton.engine.events import TokenEvent, Work
from nanotriton.engine.logprobs import TokenLogprob
from nanotriton.engine.request import Request
from nanotriton.engine.stops import TextEnd
from nanotriton.infill import before_cursor
from nanotriton.tokenizer import TextDecoder, Tokenizer

# Numbers drawn at once, more than a step takes: the same as one by one, and sooner.
NUM_DRAWN = 64


class Sequence:
    """A text's state; `num_cached` of its tokens are in the KV slot, the others are not yet.

    `num_reused` of them were there, or in another slot, before it came. `index` counts the
    request's texts, whose random streams are independent children of one seed (numpy's
    SeedSequence); text 0 has the seed's own.
    """

    def __init__(
        self,
        request: Request,
        tokenizer: Tokenizer,
        context: int,
        seed: int,
        arrived_s: float,
        *,
        index: int = 0,
    ) -> None:
        timeout_ms = request.settings.timeout_ms
        self.request = request
        self.missing = request.missing  # of the prompt's text, still to be written
        self.num_prompt = len(request.prompt)  # grows by what was missing
        self.index = index
        self.arrived_s = arrived_s
        self.deadline_s = math.inf if timeout_ms is None else arrived_s + timeout_ms / 1000
        self.tokens = list(request.prompt)
        self.slot: int | None = None
        self.num_cached = 0
        self.num_reused = 0
        self.drafter = Drafter(self.tokens)
        self.finish_reason: str | None = None
        self._context = context
        # A special token has no text; whatever follows it is no part of this completion.
        ends = () if request.settings.ignore_eos else tokenizer.special_tokens.values()
        self._ends = frozenset(ends)
        self._table = tokenizer.table
        self._decoder = TextDecoder(tokenizer.table)
        stop_at, before = request.settings.stop_at, ""
        if stop_at != "none":
            reader = TextDecoder(tokenizer.table)
            before = reader.push(before_cursor(request.prompt, tokenizer.special_tokens))
            before += reader.push_bytes(request.missing)
        self._stops = TextEnd(request.settings.stop, stop_at, before)
        self._random: np.random.Generator | None = None
        if request.settings.temperature > 0:
            children = (index,) if index else ()
            self._random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=children))
        self._drawn: list[float] = []
        self._num_steps = 0
        self._num_drafted = 0
        self._num_accepted = 0

    @property
    def is_prefilling(self) -> bool:
        """Whether more than the newest token has yet to enter the slot."""
        return len(self.tokens) - self.num_cached > 1 or self.num_cached == 0

    @property
    def num_completed(self) -> int:
        """Tokens generated so far, but for those that only wrote what was missing."""
        return len(self.tokens) - self.num_prompt

    @property
    def num_left(self) -> int:
        """Tokens that may still come."""
        # The newest token needs a place in the slot only if another one is to follow it.
        room = self._context + 1 - len(self.tokens)
        return min(room, self.request.settings.max_tokens - self.num_completed)

    def uniforms(self, count: int) -> list[float]:
        """The next numbers in [0, 1) of this request's own stream; zeros for a greedy one.

        `accept` uses one up for each token: what follows a draft that was wrong is drawn with the
        number that it would have been drawn with anyway.
        """
        if self._random is None:
            return [0.0] * count
        if len(self._drawn) < count:
            self._drawn += self._random.random(max(count, NUM_DRAWN)).tolist()
        return self._drawn[:count]

    @property
    def work(self) -> Work:
        """What it took so far."""
        return Work(self._num_steps, self.num_reused, self._num_drafted, self._num_accepted)

    def accept(
        self,
        tokens: Tokens[int],
        logprobs: Iterable[TokenLogprob] = (),
        draft: Tokens[int] = (),
    ) -> TokenEvent:
        """Append picked tokens, up to the last one, which sets `finish_reason`.

        While bytes are missing it is one token at a time: a part of them, or all and more.
        """
        self._num_steps += 1
        self._num_drafted += len(draft)
        self._num_accepted += sum(map(operator.eq, draft, tokens))
        if not self.missing:
            return self._take(tokens, logprobs)
        (token,) = tokens
        num_healed = min(len(self._table[token]), len(self.missing))
        self.missing = self.missing[num_healed:]
        if num_healed < len(self._table[token]):
            return replace(self._take(tokens, logprobs, num_healed), num_healed=num_healed)
        self.tokens.append(token)
        self.num_prompt += 1
        del self._drawn[:1]
        if self.num_left <= 0:
            return self._finish((), "", "length")
        return TokenEvent(self.request.key, (), "", index=self.index)

    def _take(
        self, tokens: Tokens[int], logprobs: Iterable[TokenLogprob], num_healed: int = 0
    ) -> TokenEvent:
        taken: list[int] = []
        text = ""
        for token in tokens:
            taken.append(token)
            text += self._append(token, self._table[token][num_healed:])
            if self.finish_reason is not None:
                break
        del self._drawn[: len(taken)]
        likely = tuple(logprobs)[: len(taken)]
        if self.finish_reason is not None:
            return self._finish(tuple(taken), text, self.finish_reason, likely)
        return TokenEvent(self.request.key, tuple(taken), text, logprobs=likely, index=self.index)

    def end(self, reason: str) -> TokenEvent:
        """End the sequence where it stands."""
        return self._finish((), "", reason)

    def _append(self, token: int, raw: bytes) -> str:
        """Take one token, which brings the bytes `raw`; the text that may be shown with it."""
        self.tokens.append(token)
        if token in self._ends:
            self.finish_reason = "stop"
            return ""
        text = self._stops.push(self._decoder.push_bytes(raw))
        if self._stops.stopped:
            self.finish_reason = "stop"
        elif self.num_left == 0:
            self.finish_reason = "length"
        return text

    def _finish(
        self,
        tokens: tuple[int, ...],
        text: str,
        reason: str,
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> TokenEvent:
        self.finish_reason = reason
        text += self._stops.flush()
        return TokenEvent(
            self.request.key, tokens, text, reason, logprobs=logprobs, index=self.index
        )
