"""A served endpoint and the model that it should serve in, how far the two differ out.

Both doors are asked, through the client library that users have. Greedy texts of real code must be
what the local model would pick, and the log-probabilities that come with them its own; then each
next token of held-out code is forced (its logit bias is the largest there is, and log-probabilities
are the model's, before any bias), which gives the perplexity of what is served. Knows nothing of
how the server computes.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clients import ClientError, Completion, CompletionClient
from export.comparison import Limit, Tolerance, check_limits, log_softmax
from export.parity import TIE, Ids, Progress, serve
from nanotriton.errors import ParityError, ServerError
from nanotriton.runners.base import Runner
from nanotriton.tokenizer import Tokenizer

MIN_PROMPT, MAX_PROMPT = 8, 96  # tokens
NUM_NEW = 24
FORCED = 100.0  # the largest logit_bias
DIFFERS = "the served model differs from the local one"
MEND = "serve what was exported from it"

# A prompt and settings to a whole completion, through one of the doors.
Door = Callable[..., Completion]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found; log-probabilities in nats, shares between 0 and 1.

    `greedy` is the share of greedy tokens that the local model would pick (ties allowed),
    `doors_agree` that of the texts that both doors wrote alike (with 4 or 8 bits a near-tie may
    fall by what the prefix cache holds), `top1` the share of forced places whose likeliest token is
    the local model's. A server doesn't tell whole distributions: `kl_estimate` is half the mean
    square of the log-probabilities' differences, KL's second-order term.
    """

    greedy_tokens: int
    greedy: float
    doors_agree: float
    positions: int
    top1: float
    kl_estimate: float
    max_logprob_delta: float
    perplexity_local: float
    perplexity_served: float

    @property
    def perplexity_rise(self) -> float:
        """By what share the served perplexity is above the local one."""
        return self.perplexity_served / self.perplexity_local - 1

    def to_dict(self) -> dict[str, float]:
        """All figures."""
        return asdict(self) | {"perplexity_rise": self.perplexity_rise}

    def check(self, tolerance: Tolerance, accept: Collection[str]) -> dict[str, float]:
        """What was accepted beyond its limit; raises ParityError for what wasn't."""
        rise = self.perplexity_rise
        limits = (
            Limit("kl", "mean KL", self.kl_estimate, tolerance.max_kl),
            Limit("greedy", "greedy agreement", self.greedy, tolerance.min_greedy, is_least=True),
            Limit("top1", "top-1 agreement", self.top1, tolerance.min_top1, is_least=True),
            Limit("perplexity_rise", "rise of perplexity", rise, tolerance.max_perplexity_rise),
        )
        return check_limits(limits, accept, DIFFERS, MEND)


@contextmanager
def open_doors(url: str, protocol: Literal["grpc", "http"]) -> Iterator[Mapping[str, Door]]:
    """The unary and the streamed door; both raise ServerError when the server doesn't answer."""
    with CompletionClient(url, protocol) as client:
        try:
            yield {"completion": client.complete, "completion_stream": partial(_stream, client)}
        except ClientError as error:
            raise ServerError(f"{url}: {error}") from None


def _stream(client: CompletionClient, prompt: str, **settings: Any) -> Completion:
    """The chunks of a stream, put together."""
    with client.stream(prompt, **settings) as stream:
        chunks = list(stream)
    return Completion(
        text="".join(one.text for one in chunks),
        finish_reason=chunks[-1].finish_reason or "",
        prompt_tokens=chunks[-1].prompt_tokens or 0,
        completion_tokens=chunks[-1].completion_tokens or 0,
        logprobs=tuple(token for one in chunks for token in one.logprobs),
    )


def verify(
    doors: Mapping[str, Door],
    runner: Runner,
    tokenizer: Tokenizer,
    prompts: Sequence[Ids],
    progress: Progress,
) -> Verification:
    """Compare the greedy texts behind the prompts, and the prompts themselves, token by token."""
    written = [_write_greedily(doors, prompt, tokenizer, runner.context) for prompt in prompts]
    progress(f"verify: {len(prompts)} greedy texts through {len(doors)} doors")
    greedy = [
        _compare_greedy(runner, prompt, one)
        for prompt, texts in zip(prompts, written, strict=True)
        for one in texts
    ]
    forced = _force(doors, runner, tokenizer, prompts)
    progress(f"verify: {len(forced.served)} forced tokens")
    places = [forced, *greedy]
    deltas = np.concatenate([np.abs(one.served - one.local) for one in places])
    picked = np.concatenate([one.agreed for one in greedy])
    return Verification(
        greedy_tokens=len(picked),
        greedy=float(picked.mean()),
        doors_agree=float(np.mean([len({one.text for one in texts}) == 1 for texts in written])),
        positions=len(forced.served),
        top1=float(forced.agreed.mean()),
        kl_estimate=float(np.square(deltas).mean() / 2),
        max_logprob_delta=float(deltas.max()),
        perplexity_local=float(np.exp(-forced.local.mean())),
        perplexity_served=float(np.exp(-forced.served.mean())),
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """Of each token: both log-probabilities, and whether both models pick the same one there."""

    served: NDArray[np.float64]
    local: NDArray[np.float64]
    agreed: NDArray[np.bool_]


def cut_prompts(ids: Ids, tokenizer: Tokenizer, context: int, num_tokens: int) -> list[Ids]:
    """About `num_tokens` tokens in stretches of growing lengths that encode to themselves again.

    Raises ParityError when the text has none.
    """
    prompts: list[Ids] = []
    longest = min(MAX_PROMPT, context - NUM_NEW)
    start = length = 0
    while start + longest <= len(ids) and sum(map(len, prompts)) < num_tokens:
        length = MIN_PROMPT + (length + 13) % max(1, longest - MIN_PROMPT)
        prompt = ids[start : start + length]
        if _is_text(prompt, tokenizer):
            prompts.append(prompt)
        start += length
    if not prompts:
        raise ParityError(
            f"the text has {len(ids)} tokens of this vocabulary, a check needs at least {longest}: "
            "give a longer one with --text"
        )
    return prompts


def _is_text(ids: Ids, tokenizer: Tokenizer) -> bool:
    tokens: list[int] = ids.tolist()
    return tokenizer.encode(tokenizer.decode(tokens)) == tokens


def _write_greedily(
    doors: Mapping[str, Door], prompt: Ids, tokenizer: Tokenizer, context: int
) -> list[Completion]:
    """One text a door, with the log-probabilities of its tokens."""
    text = tokenizer.decode(prompt.tolist())
    num_new = min(NUM_NEW, context - len(prompt))
    return [
        door(text, max_tokens=num_new, temperature=0, logprobs=0, ignore_eos=True)
        for door in doors.values()
    ]


def _compare_greedy(runner: Runner, prompt: Ids, written: Completion) -> _Places:
    """Every written token, given those before it, with the local model."""
    tokens = np.array([one.id for one in written.logprobs])
    logits = _local_logits(runner, np.concatenate([prompt, tokens[:-1]]))[len(prompt) - 1 :]
    at = np.arange(len(tokens))
    return _Places(
        served=np.array([one.logprob for one in written.logprobs]),
        local=log_softmax(logits)[at, tokens],
        agreed=logits.max(axis=1) - logits[at, tokens] < TIE,
    )


def _force(
    doors: Mapping[str, Door], runner: Runner, tokenizer: Tokenizer, prompts: Sequence[Ids]
) -> _Places:
    """Each token of the prompts behind those before it, the doors in turn."""
    served: list[float] = []
    local: list[float] = []
    agreed: list[bool] = []
    turn = itertools.cycle(doors.values())
    for prompt in prompts:
        logits = _local_logits(runner, prompt)
        logprobs = log_softmax(logits)
        for at in range(1, len(prompt)):
            if not _is_text(prompt[:at], tokenizer):
                continue
            text, token = tokenizer.decode(prompt[:at].tolist()), int(prompt[at])
            bias = {token: FORCED}
            found = next(turn)(text, max_tokens=1, temperature=0, logprobs=1, logit_bias=bias)
            served.append(found.logprobs[0].logprob)
            local.append(float(logprobs[at - 1, token]))
            agreed.append(found.logprobs[0].top[0].id == int(logits[at - 1].argmax()))
    return _Places(np.array(served), np.array(local), np.array(agreed))


def _local_logits(runner: Runner, ids: Ids) -> NDArray[np.float32]:
    """(T, V) behind every token."""
    return serve(runner, [ids])[0].logits
