"""One request while it is worked on: its tokens, its slot, its text so far.

Comes in: a request and the tokens picked for it. Goes out: token events. Knows nothing of other
sequences.
"""

import numpy as np

from nanotriton.engine.events import TokenEvent, Usage
from nanotriton.engine.request import Request
from nanotriton.engine.stops import StopMatcher
from nanotriton.tokenizer import TextDecoder, Tokenizer


class Sequence:
    """A request's state; `num_cached` of its tokens are in the KV slot, the others are not yet.

    `num_reused` of them were there, or in another slot, before the request came.
    """

    def __init__(self, request: Request, tokenizer: Tokenizer, context: int, seed: int) -> None:
        self.request = request
        self.tokens = list(request.prompt)
        self.slot: int | None = None
        self.num_cached = 0
        self.num_reused = 0
        self.finish_reason: str | None = None
        self._context = context
        self._end_of_text = None if request.settings.ignore_eos else tokenizer.end_of_text
        self._decoder = TextDecoder(tokenizer.table)
        self._stops = StopMatcher(request.settings.stop)
        self._random = np.random.default_rng(seed) if request.settings.temperature > 0 else None
        self._text_bytes = 0

    @property
    def is_prefilling(self) -> bool:
        """Whether more than the newest token has yet to enter the slot."""
        return len(self.tokens) - self.num_cached > 1 or self.num_cached == 0

    @property
    def num_completed(self) -> int:
        """Tokens generated so far."""
        return len(self.tokens) - len(self.request.prompt)

    def next_uniform(self) -> float:
        """The next number in [0, 1) of this request's own stream; 0 for a greedy one."""
        return float(self._random.random()) if self._random else 0.0

    def accept(self, token: int) -> TokenEvent:
        """Append a picked token; sets `finish_reason` when it was the last."""
        self.tokens.append(token)
        if token == self._end_of_text:
            return self._finish((token,), "", "stop")
        text = self._stops.push(self._decoder.push((token,)))
        if self._stops.stopped:
            return self._finish((token,), text, "stop")
        # The newest token needs a place in the slot only if another one is to follow it.
        if self.num_completed == self.request.settings.max_tokens or (
            len(self.tokens) > self._context
        ):
            return self._finish((token,), text, "length")
        self._text_bytes += len(text.encode())
        return TokenEvent(self.request.key, (token,), text)

    def cancel(self) -> TokenEvent:
        """End the sequence where it stands."""
        return self._finish((), "", "cancelled")

    def _finish(self, tokens: tuple[int, ...], text: str, reason: str) -> TokenEvent:
        self.finish_reason = reason
        text += self._stops.flush()
        self._text_bytes += len(text.encode())
        usage = Usage(len(self.request.prompt), self.num_completed, self._text_bytes)
        return TokenEvent(self.request.key, tokens, text, reason, usage)
