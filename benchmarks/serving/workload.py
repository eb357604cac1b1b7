"""What is asked when serving is measured, and when: code completion, from code held out.

Comes in: Python files that the demo model never saw, a tokenizer, a seed. Goes out: Questions
without end, times of arrival, functions to type. The same seed gives the same, whatever is asked
and however fast it answers. Knows nothing of servers.
"""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.common.typing_users import functions_of, head_of
from benchmarks.serving.questions import Question
from nanotriton.tokenizer import Tokenizer, load_tokenizer

DEMO = Path(__file__).parent.parent.parent / "demo"
CONTEXT = 512  # tokens, of the demo model: what fits in it fits the others
MIN_PROMPT = 32
NEW_TOKENS = (32, 48, 64)
MAX_PROMPT = CONTEXT - max(NEW_TOKENS)
SPARE = 24  # tokens: a typist's own first line, a wrong key
BURST = 8  # questions that come at one moment


@dataclass(frozen=True, slots=True)
class Typed:
    """A function that somebody types, and what stands above it in the editor's window."""

    above: str
    text: str


@cache
def demo_tokenizer() -> Tokenizer:
    """What prompts are measured by, whoever is asked them."""
    return load_tokenizer(DEMO)


def questions(
    files: Sequence[Sequence[int]], tokenizer: Tokenizer, seed: str
) -> Iterator[Question]:
    """Prompts cut out of the files' tokens anywhere, without end.

    Their lengths are log-uniform from MIN_PROMPT to MAX_PROMPT: as many short ones, typed at a
    file's beginning, as long ones.
    """
    weights = [len(ids) for ids in files]
    draw = random.Random(seed)
    while True:
        (ids,) = draw.choices(files, weights)
        length = round(math.exp(draw.uniform(math.log(MIN_PROMPT), math.log(MAX_PROMPT))))
        end = draw.randint(length, len(ids))
        yield Question(tokenizer.decode(ids[end - length : end]), draw.choice(NEW_TOKENS))


def tokens_of(files: Sequence[Path], tokenizer: Tokenizer) -> list[list[int]]:
    """The files' tokens, of those that are long enough; raises ValueError when none is."""
    read = [tokenizer.encode(one.read_text(encoding="utf-8")) for one in files]
    if found := [ids for ids in read if len(ids) >= MAX_PROMPT]:
        return found
    raise ValueError(f"no file has {MAX_PROMPT} tokens to cut prompts from: give other --source")


def poisson_arrivals(per_s: float, seconds: float, seed: int) -> Iterator[float]:
    """Seconds from the start, of people who know nothing of each other."""
    draw = random.Random(seed)
    at_s = draw.expovariate(per_s)
    while at_s < seconds:
        yield at_s
        at_s += draw.expovariate(per_s)


def burst_arrivals(per_s: float, seconds: float, seed: int, size: int = BURST) -> Iterator[float]:
    """As many in the mean, but `size` at each moment."""
    for at_s in poisson_arrivals(per_s / size, seconds, seed):
        yield from [at_s] * size


def typed_functions(files: Sequence[Path], tokenizer: Tokenizer, max_tokens: int) -> list[Typed]:
    """The functions of these files, each with as much above it as CONTEXT holds beside an answer.

    Raises ValueError when there are none.
    """
    room = CONTEXT - max_tokens - SPARE
    found = [
        Typed(above, function)
        for file in files
        for whole, function in functions_of(file.read_text(encoding="utf-8"))
        if (above := head_of(whole, function, tokenizer, room)) is not None
    ]
    if not found:
        raise ValueError("no function of 200 to 1500 characters to type: give other --source files")
    return found
