"""Cut functions and a Predictor in; the share of its completions that are right out.

Right is what parses, for a function cut at a line; what is the same, for a line taken out. Knows
nothing of how the predictor came about.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from training.completion import CompletionConfig, complete
from training.functions import Cut, Hole, Trimmed, trim
from training.infill import NUM_MARKERS, Markers
from training.prediction import Predictor
from training.subject import Subject

Z_95 = 1.96  # of the normal distribution, two-sided


@dataclass(frozen=True, slots=True)
class Share:
    """``num_right`` of ``count``."""

    num_right: int
    count: int

    @property
    def value(self) -> float | None:
        """None of nothing."""
        return self.num_right / self.count if self.count else None

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (1927, JASA 22:209), sound for small counts and shares near 1."""
        if not self.count:
            return (0.0, 1.0)
        n, z2 = self.count, Z_95**2
        share = self.num_right / n
        middle = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        return (max(middle - half, 0.0), min(middle + half, 1.0))

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"share": self.value, "interval_95": self.interval()}


@dataclass(frozen=True, slots=True)
class ParseShare:
    """Functions that parse once completed.

    ``unfinished`` counts only those whose cut leaves no Python: the others parse if nothing is
    added. ``ended`` counts the completions that came to the function's end by themselves.
    """

    parses: Share
    unfinished: Share
    ended: Share
    mean_lines: float

    def as_dict(self) -> dict[str, object]:
        parts = {"parses": self.parses, "unfinished": self.unfinished, "ended": self.ended}
        shares: dict[str, object] = {name: share.as_dict() for name, share in parts.items()}
        return shares | {"mean_lines": self.mean_lines}


def complete_functions(
    cuts: Sequence[Cut], predictor: Predictor, subject: Subject, config: CompletionConfig
) -> list[Trimmed]:
    """What ``predictor`` adds to each, up to the function's end."""
    room = subject.model.config.block_size - config.max_tokens
    encoding = subject.spec.encoding()
    prompts = [[subject.end_of_text, *encoding.encode_ordinary(cut.before)][-room:] for cut in cuts]

    def is_done(index: int, ids: Sequence[int]) -> bool:
        return trim(subject.decode(ids), cuts[index].indent).ended

    completions = complete(predictor, prompts, subject.end_of_text, is_done, config)
    return [
        trim(subject.decode(ids), cut.indent, is_whole=len(ids) < config.max_tokens)
        for cut, ids in zip(cuts, completions, strict=True)
    ]


def measure_parsing(cuts: Sequence[Cut], added: Sequence[Trimmed]) -> ParseShare:
    """Of at least one function, each with what was added to it."""
    right = [cut.parses_with(trimmed.text) for cut, trimmed in zip(cuts, added, strict=True)]
    is_unfinished = [not cut.parses_with("") for cut in cuts]
    num_lines = sum(1 for trimmed in added for line in trimmed.text.split("\n") if line.strip())
    return ParseShare(
        parses=Share(sum(right), len(cuts)),
        unfinished=Share(
            sum(r and u for r, u in zip(right, is_unfinished, strict=True)), sum(is_unfinished)
        ),
        ended=Share(sum(trimmed.ended for trimmed in added), len(cuts)),
        mean_lines=num_lines / len(cuts),
    )


def measure_infill(
    holes: Sequence[Hole], predictor: Predictor, subject: Subject, config: CompletionConfig
) -> Share:
    """Lines filled in exactly, but for spaces around them."""
    prompts = [infill_prompt(hole, subject, config.max_tokens) for hole in holes]

    def is_done(_: int, ids: Sequence[int]) -> bool:
        return "\n" in subject.decode(ids)

    completions = complete(predictor, prompts, subject.end_of_text, is_done, config)
    lines = [subject.decode(ids).partition("\n")[0].strip() for ids in completions]
    return Share(
        sum(line == hole.line for line, hole in zip(lines, holes, strict=True)), len(holes)
    )


def infill_prompt(hole: Hole, subject: Subject, max_tokens: int) -> list[int]:
    """Of what surrounds the hole, as much as the context leaves, in the order that is served."""
    mark = Markers.of(subject.spec.special_tokens)
    encoding = subject.spec.encoding()
    room = subject.model.config.block_size - max_tokens - NUM_MARKERS
    suffix = encoding.encode_ordinary(hole.suffix)[: room // 2]
    prefix = encoding.encode_ordinary(hole.prefix)[-(room - len(suffix)) :]
    return mark.ask(prefix, suffix, suffix_first=subject.suffix_first)
