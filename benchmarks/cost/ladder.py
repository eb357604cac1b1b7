"""What each optimisation brings: the same requests by one way after another, each with one more.

Comes in: a checkpoint, users and their requests. Goes out: a Rung for each way. Everything runs in
this process, without a server: what the engine does is what is compared. Every way gets every round
in turn, so that all see the same noise. What is opened first in a process is 1 to 9 % faster than
the same once more, so half of the rounds are of ways that were opened the other way around.
"""

import importlib.util
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.common.random_model import export_version
from benchmarks.common.ratios import Ratio, paired_ratio
from benchmarks.common.typing_users import typed_series
from benchmarks.engine.replay import ask, rounds_of
from benchmarks.peers.ours import graph_use
from benchmarks.peers.serving import Options
from nanotriton.engine.core import Engine, EngineOptions
from nanotriton.engine.request import Settings
from nanotriton.manifest import Manifest
from nanotriton.runners.graphs import BY_ROWS, GraphUse
from nanotriton.runners.ort import OrtRunner
from nanotriton.tokenizer import Tokenizer, load_tokenizer

Prompts = Sequence[list[int]]
Way = Callable[[Prompts], int]  # answers them, and says how many tokens it wrote
NUM_WARM_UP = 2
EVERY = 12  # characters that are typed between two requests
# Without a cache every token costs the whole text, so a few tell what many cost.
NUM_TOKENS_WITHOUT_CACHE = 2
PLAIN = EngineOptions(prefix_cache=False, speculation=False)


@dataclass(frozen=True, slots=True)
class Work:
    """`num_users` people ask `num_rounds` times each, for `max_tokens` every time."""

    num_users: int
    num_rounds: int
    max_tokens: int
    num_threads: int


@dataclass(frozen=True, slots=True)
class Rung:
    """One way: tokens a second, the median of the rounds, and how many times the one before it.

    `before` names that one. It is not always the row above: int4 alone is an aside.
    """

    way: str
    precision: str
    tokens_per_s: float
    before: str
    gain: Ratio


BEFORE = {
    "no KV cache": "PyTorch, no KV cache",
    "KV cache": "no KV cache",
    "batching": "KV cache",
    "int8": "batching",
    "int4": "batching",
    "int8 and int4": "int8",
    "prefix cache": "int8 and int4",
    "speculation": "prefix cache",
}


def climb(
    checkpoint: Path,
    files: Sequence[Path],
    work: Work,
    folder: Path,
    progress: Callable[[str], None],
) -> list[Rung]:
    """Export into `folder` and measure all ways; PyTorch's only where it is installed."""
    versions = {precision: folder / precision for precision in ("fp32", "auto")}
    for precision, version in versions.items():
        export_version(checkpoint, version, precision)
        progress(f"exported {precision}")
    tokenizer = load_tokenizer(versions["auto"])
    openers = _openers(versions, tokenizer, work)
    if importlib.util.find_spec("torch"):
        openers = {"PyTorch, no KV cache": lambda: _tutorial(checkpoint, folder, work), **openers}
    room = Manifest.load(versions["auto"]).context - work.max_tokens
    rounds = rounds_of(typed_series(files, EVERY, tokenizer, room), work.num_users)
    rates: dict[str, list[float]] = {name: [] for name in openers}
    for order, num_rounds in (
        ([*openers], work.num_rounds - work.num_rounds // 2),
        ([*reversed(openers)], work.num_rounds // 2),
    ):
        if not num_rounds:
            continue
        ways = {name: openers[name]() for name in order}
        part = itertools.islice(rounds, num_rounds + NUM_WARM_UP)
        for name, found in measure_ways(ways, part, progress).items():
            rates[name] += found
    return _rungs(rates)


def measure_ways(
    ways: dict[str, Way], rounds: Iterator[Prompts], progress: Callable[[str], None]
) -> dict[str, list[float]]:
    """Tokens a second of each way in each round, without those that warm up."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number, prompts in enumerate(rounds):
        names = [*ways]
        turn = number % len(names)  # nobody is always first
        for name in names[turn:] + names[:turn]:
            started = time.perf_counter()
            num_tokens = ways[name](prompts)
            rates[name].append(num_tokens / (time.perf_counter() - started))
        progress(f"round {number + 1}")
    return {name: found[NUM_WARM_UP:] for name, found in rates.items()}


def _rungs(rates: dict[str, list[float]]) -> list[Rung]:
    precisions = {"int8": "int8", "int4": "int4", "PyTorch, no KV cache": "fp32"}
    precisions |= dict.fromkeys(("int8 and int4", "prefix cache", "speculation"), "auto")
    rungs = []
    for name, found in rates.items():
        before = BEFORE.get(name, name)
        if before not in rates:  # no PyTorch here: the first one is compared with itself
            before = name
        gain = paired_ratio(found, rates[before])
        rungs.append(Rung(name, precisions.get(name, "fp32"), median(found), before, gain))
    return rungs


def _openers(
    versions: dict[str, Path], tokenizer: Tokenizer, work: Work
) -> dict[str, Callable[[], Way]]:
    """What opens each, with slots of its own."""
    settings = Settings(max_tokens=work.max_tokens, ignore_eos=True)
    manifest = Manifest.load(versions["auto"])

    def engine(version: str, graphs: GraphUse = BY_ROWS, options: EngineOptions = PLAIN) -> Engine:
        slots = 2 * work.num_users  # the prefix cache wants some that are free
        runner = OrtRunner(versions[version], slots, work.num_threads, graphs)
        return Engine(runner, tokenizer, lambda: 0, time.perf_counter, options)

    def together(engine: Engine) -> Way:
        return lambda prompts: _num_tokens(engine, prompts, settings)

    def alone(engine: Engine) -> Way:
        return lambda prompts: sum(_num_tokens(engine, [one], settings) for one in prompts)

    int8, int4 = (graph_use(name, manifest) for name in ("int8", "int4"))
    cached = replace(PLAIN, prefix_cache=True)
    guessing = replace(cached, speculation=True)
    return {
        "no KV cache": lambda: _without_cache(engine("fp32")),
        "KV cache": lambda: alone(engine("fp32")),
        "batching": lambda: together(engine("fp32")),
        "int8": lambda: together(engine("auto", int8)),
        "int4": lambda: together(engine("auto", int4)),
        "int8 and int4": lambda: together(engine("auto")),
        "prefix cache": lambda: together(engine("auto", options=cached)),
        "speculation": lambda: together(engine("auto", options=guessing)),
    }


def _num_tokens(engine: Engine, prompts: Prompts, settings: Settings) -> int:
    return sum(len(one.tokens) for one in ask(engine, prompts, settings))


def _without_cache(engine: Engine) -> Way:
    """The whole text again for each token, one request at a time."""
    one_token = Settings(max_tokens=1, ignore_eos=True)

    def way(prompts: Prompts) -> int:
        for prompt in prompts:
            text = list(prompt)
            for _ in range(NUM_TOKENS_WITHOUT_CACHE):
                text += ask(engine, [text], one_token)[0].tokens
        return len(prompts) * NUM_TOKENS_WITHOUT_CACHE

    return way


def _tutorial(checkpoint: Path, folder: Path, work: Work) -> Way:
    """The same in PyTorch, as tutorials have it."""
    from benchmarks.peers.tutorial import Tutorial  # noqa: PLC0415 (PyTorch is an extra)

    model = Tutorial(Options(checkpoint, folder, "fp32", work.num_threads, 1, 0, None))

    def way(prompts: Prompts) -> int:
        for prompt in prompts:
            deque(model.generate([prompt], NUM_TOKENS_WITHOUT_CACHE), maxlen=0)
        return len(prompts) * NUM_TOKENS_WITHOUT_CACHE

    return way
