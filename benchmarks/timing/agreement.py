"""perf_analyzer and our own client on the same load, in turn: do their figures agree?

Comes in: a model repository, loads. Goes out: for each way to ask and each load what both measured,
and the ratio of their figures, round by round. The server is the run's own. Every measurement has
prompts of its own, which are the same but for their first line, so that no cache answers.
"""

import secrets
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median

from benchmarks.common.ratios import Ratio, paired_ratio
from benchmarks.serving.own_servers import Triton, running_triton
from benchmarks.timing.perf_analyzer import Analyzer, find_analyzer
from benchmarks.timing.prompts import code_prompts
from benchmarks.timing.same_load import measure_same
from benchmarks.timing.ways import WAYS, Figures, Load, Way

TOLERANCE = 0.1
NUM_PROMPTS = 500  # of a measurement; who needs more begins again, long after the slots forgot
FIRST = "first_ms"
COMPARED = ("per_s", "mean_ms", "p50_ms", FIRST)
VERDICTS = ("within 10 %", "noise swallows it", "apart")


@dataclass(frozen=True, slots=True)
class Agreement:
    """One way and load: medians over rounds, and perf_analyzer's figures over ours by name."""

    way: str
    load: str
    kind: str
    value: float
    theirs: Figures
    ours: Figures
    ratios: dict[str, Ratio]
    verdict: str  # of the figure that is furthest off


def verdict_of(ratio: Ratio) -> str:
    """Whether two clients agree; noise swallows a difference whose interval reaches the 10 %."""
    if abs(ratio.value - 1) <= TOLERANCE:
        return VERDICTS[0]
    reaches = ratio.low <= 1 + TOLERANCE and ratio.high >= 1 - TOLERANCE
    return VERDICTS[1 if reaches else 2]


def measure_agreement(
    repository: Path,
    venvs: Path,
    loads: Sequence[Load],
    num_rounds: int,
    progress: Callable[[str], None],
) -> list[Agreement]:
    """Each way under each load; raises ValueError without perf_analyzer, or when a request fails.

    Who comes first changes with every round.
    """
    with tempfile.TemporaryDirectory(prefix="nanotriton-perf-") as name:
        folder = Path(name)
        analyzer = find_analyzer(venvs, folder)
        with running_triton(repository, folder) as triton:
            found = []
            for way in WAYS:
                for load in loads:
                    pairs = [
                        _measure_pair(analyzer, triton, way, load, number)
                        for number in range(num_rounds)
                    ]
                    found.append(agreement_of(way, load, pairs))
                    progress(f"{way.name}, {load.name}: {found[-1].verdict}")
            return found


def _measure_pair(
    analyzer: Analyzer, triton: Triton, way: Way, load: Load, number: int
) -> tuple[Figures, Figures]:
    """perf_analyzer's figures and ours."""
    url = triton.grpc_url if way.protocol == "grpc" else triton.http_url

    def prompts() -> list[str]:
        return code_prompts(NUM_PROMPTS, number, secrets.token_hex(4))

    if number % 2:
        theirs = analyzer.measure(way, url, load, prompts())
        return theirs, measure_same(way, url, load, prompts())
    ours = measure_same(way, url, load, prompts())
    return analyzer.measure(way, url, load, prompts()), ours


def agreement_of(way: Way, load: Load, pairs: Sequence[tuple[Figures, Figures]]) -> Agreement:
    """The medians of both, and the ratio of each figure that both have."""
    theirs, ours = ([pair[which] for pair in pairs] for which in (0, 1))
    ratios = {
        name: paired_ratio(_values(theirs, name), _values(ours, name))
        for name in COMPARED
        if way.is_stream or name != FIRST
    }
    verdict = max(map(verdict_of, ratios.values()), key=VERDICTS.index)
    medians = median_of(theirs), median_of(ours)
    return Agreement(way.name, load.name, load.kind, load.value, *medians, ratios, verdict)


def median_of(figures: Sequence[Figures]) -> Figures:
    """Of each figure by itself."""
    medians = {
        one.name: median(_values(figures, one.name)) for one in fields(Figures) if one.name != FIRST
    }
    first_ms = None if figures[0].first_ms is None else median(_values(figures, FIRST))
    return Figures(**medians, first_ms=first_ms)


def _values(figures: Sequence[Figures], name: str) -> list[float]:
    return [getattr(one, name) for one in figures]
