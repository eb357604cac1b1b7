"""The texts of one request put together: its events in, what a door answers out.

Knows nothing of Triton or of other requests.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nanotriton.engine.events import Event, Failure, Usage, is_final
from nanotriton.engine.logprobs import TokenLogprob, to_json
from nanotriton.engine.request import Settings
from nanotriton.errors import NanotritonError


@dataclass(slots=True)
class Text:
    """One of them, or a piece of it; `logprobs` is None when nobody asked for them.

    The first `num_healed` bytes of its first token end the prompt and aren't in `text`.
    """

    logprobs: list[TokenLogprob] | None
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    num_healed: int = 0
    finish_reason: str = ""

    def logprobs_json(self, table: Sequence[bytes]) -> str:
        """The element of the output `output_logprobs`; `table` has each token's bytes."""
        return "" if self.logprobs is None else to_json(self.logprobs, table)


class Texts:
    """Collects a request's events; `usage` or `error` is there when the last one came."""

    def __init__(self, settings: Settings) -> None:
        self._has_logprobs = settings.logprobs is not None
        self.texts = [self._empty() for _ in range(settings.n)]
        self.usage: Usage | None = None
        self.error: NanotritonError | None = None
        self.is_whole = False

    def add(self, event: Event) -> None:
        """Take one event."""
        self.is_whole = is_final(event)
        if isinstance(event, Failure):
            self.error = event.error
            return
        text = self.texts[event.index]
        text.tokens += event.tokens
        text.text += event.text
        text.num_healed += event.num_healed
        text.finish_reason = event.finish_reason or ""
        self.usage = event.usage
        if text.logprobs is not None:
            text.logprobs += event.logprobs

    def take(self, index: int) -> Text:
        """What came of a text since it was taken before."""
        text, self.texts[index] = self.texts[index], self._empty()
        return text

    def _empty(self) -> Text:
        return Text([] if self._has_logprobs else None)
