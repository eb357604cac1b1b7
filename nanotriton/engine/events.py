"""What the engine says of a request: new tokens, or that it failed. Exactly one event is final.

A request has one text or, with `n`, several; each event is of one of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from nanotriton.engine.logprobs import TokenLogprob
from nanotriton.errors import NanotritonError

Key = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Usage:
    """Counts of a finished request, over all its texts, those that nobody gets among them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a request took: steps that brought it tokens, and what saved it some.

    `reused_tokens` of its prompt were in the KV cache; of `drafted_tokens` guesses
    `accepted_tokens` were right.
    """

    num_steps: int = 0
    reused_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Times:
    """When a request was submitted, got a slot, its first token, and ended: Unix nanoseconds."""

    submitted_ns: int
    started_ns: int | None
    first_token_ns: int | None
    finished_ns: int


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """New tokens of text number `index` of a request and the text that became whole with them.

    The last event of a text has a `finish_reason` ("stop", "length", "timeout" or "cancelled"),
    the last of the request its `usage` and its `work`. Tokens of a stop string are counted and
    returned, its text is not. `logprobs` holds one for each token when the request asked for them.
    The first `num_healed` bytes of the first token end the prompt, and are no text of the
    completion. `times` come with the request's last event from an engine's process.
    """

    key: Key
    tokens: tuple[int, ...]
    text: str
    finish_reason: str | None = None
    usage: Usage | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    index: int = 0
    num_healed: int = 0
    work: Work | None = None
    times: Times | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The request ended without a completion, all its texts with it; always final."""

    key: Key
    error: NanotritonError
    times: Times | None = None


Event = TokenEvent | Failure


def as_one(events: Sequence[TokenEvent]) -> TokenEvent:
    """Events of one text, in their order, as if they had come at once."""
    if len(events) == 1:
        return events[0]
    return replace(
        events[-1],
        tokens=tuple(chain.from_iterable(one.tokens for one in events)),
        num_healed=max(one.num_healed for one in events),
        text="".join(one.text for one in events),
        logprobs=tuple(chain.from_iterable(one.logprobs for one in events)),
    )


def joined(events: Iterable[Event]) -> list[Event]:
    """As few events that say the same: one a text, and the last of each request its last."""
    texts: dict[tuple[Key, int], list[TokenEvent]] = {}
    failures: list[Event] = []
    for event in events:
        if isinstance(event, Failure):
            failures.append(event)
        else:
            place = event.key, event.index
            texts[place] = [*texts.pop(place, ()), event]  # at the end, where a final one belongs
    return [*map(as_one, texts.values()), *failures]


def is_final(event: Event) -> bool:
    """Whether no event of its request follows this one."""
    return isinstance(event, Failure) or event.usage is not None
