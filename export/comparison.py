"""Two sets of logits in, the figures that compare them and their limits out.

A figure beyond its limit is refused, unless it is accepted by name: then it is told, not hidden.
Knows nothing of runners, of slots or of the model.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nanotriton.errors import ArtifactError, ParityError

SMALLEST_LOGIT = 1e-6  # of a model whose logits are all zero
SHARES = ("min_top1", "min_greedy", "max_perplexity_rise")
DIFFERS = "the artifact differs from its checkpoint"
MEND = "nothing was written: export a higher precision"
# What --accept takes: the limits' names without max_ and min_.
METRICS = ("relative_delta", "kl", "top1", "greedy", "perplexity_rise")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What still counts as the same model; every field is a command line option of its own.

    `max_perplexity_rise` is the budget: 0.01 allows a perplexity of 1 % above the checkpoint's.
    Raises ArtifactError for a limit that means nothing.
    """

    max_relative_delta: float
    max_kl: float
    min_top1: float
    min_greedy: float
    max_perplexity_rise: float

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            most = 1.0 if one.name in SHARES else np.inf
            if not 0 <= value <= most:  # nor when it is NaN
                raise ArtifactError(
                    f"--{one.name.replace('_', '-')} is {value:g}, it needs a number from 0 "
                    + ("to 1: 0.05 means 5 %" if one.name in SHARES else "up")
                )


TOLERANCES = {
    # Only the order of float32 sums differs: about 1e-6 of the largest logit at 12 layers, a
    # hundredth of the limit. Greedy text is equal but for ties, which don't count.
    "fp32": Tolerance(1e-4, max_kl=1e-6, min_top1=0.999, min_greedy=1.0, max_perplexity_rise=1e-4),
    # Rounding to 11 bits decides near-ties alone (measured on the demo: KL 4e-7, best token kept in
    # every place); ten and more times that is something broken.
    "fp16": Tolerance(
        np.inf, max_kl=1e-4, min_top1=0.98, min_greedy=0.95, max_perplexity_rise=1e-3
    ),
    # 8 bits a weight and an activation: rounding decides near-ties alone, so the distribution
    # stays within three thousandths of a nat (measured: 1.4e-3 to 1.7e-3), the limit that counts.
    # How many near-ties there are depends on the model and the text: the demo keeps the best token
    # in 95.1 to 97.9 of 100 places (1,024 tokens of the standard library, 16,459 of its held-out
    # files), so this only stops what is broken.
    # A single logit may move far and a greedy text turn at a near-tie: no limit on both.
    "int8": Tolerance(np.inf, max_kl=3e-3, min_top1=0.94, min_greedy=0.0, max_perplexity_rise=0.01),
    # One scale for all rows of an activation is coarser than one a row (measured on the demo: KL
    # 2.9e-3, best token kept in 96 of 100 places).
    "int8-static": Tolerance(
        np.inf, max_kl=1e-2, min_top1=0.92, min_greedy=0.8, max_perplexity_rise=0.01
    ),
    # 4 bits in all linears and, for all but the best tokens, in the head (measured on the demo: KL
    # 1.9e-2, perplexity +1.6 %, best token kept in 93.6 of 100 places; 98 of 100 greedy tokens are
    # those of float32 when two graphs take turns; KL 2.4e-2 on 1,024 tokens of the standard
    # library). Its weights rounded as Q4_0 of llama.cpp give 4.5e-2 and +4.9 %, as OpenVINO's int4
    # 6.2e-2 and +7.1 %, to the nearest here 7.5e-2 and +7.8 %: two thirds of the least of these;
    # beyond it weights were not fitted, do not fit into 4 bits, or something is broken.
    "int4": Tolerance(
        np.inf, max_kl=3e-2, min_top1=0.88, min_greedy=0.85, max_perplexity_rise=0.03
    ),
}


@dataclass(frozen=True, slots=True)
class Report:
    """The comparison; perplexities are per token, KL in nats, shares between 0 and 1."""

    positions: float
    max_abs_delta: float
    max_abs_logit: float
    mean_kl: float
    top1: float
    perplexity_checkpoint: float
    perplexity_artifact: float
    greedy: float
    greedy_tokens: float

    @property
    def perplexity_rise(self) -> float:
        """By what share the artifact's perplexity is above the checkpoint's."""
        return self.perplexity_artifact / self.perplexity_checkpoint - 1

    def to_dict(self) -> dict[str, float]:
        """As it stands in the manifest."""
        return asdict(self) | {"perplexity_rise": self.perplexity_rise}

    def check(self, tolerance: Tolerance, accept: Collection[str] = ()) -> dict[str, float]:
        """The limits that were broken and accepted, as accepted_METRIC.

        Raises ParityError that names the first figure outside of the tolerance and not accepted.
        """
        relative = self.max_abs_delta / max(self.max_abs_logit, SMALLEST_LOGIT)
        limits = (
            Limit("top1", "top-1 agreement", self.top1, tolerance.min_top1, is_least=True),
            Limit("kl", "mean KL", self.mean_kl, tolerance.max_kl),
            Limit(
                "relative_delta",
                "largest logit difference relative to the largest logit",
                relative,
                tolerance.max_relative_delta,
            ),
            Limit("greedy", "greedy agreement", self.greedy, tolerance.min_greedy, is_least=True),
            Limit(
                "perplexity_rise",
                "rise of perplexity",
                self.perplexity_rise,
                tolerance.max_perplexity_rise,
            ),
        )
        return check_limits(limits, accept)


@dataclass(frozen=True, slots=True)
class Limit:
    """A figure of the metric that `--accept` knows by `name`, and what bounds it."""

    name: str
    what: str
    value: float
    bound: float
    is_least: bool = False

    @property
    def is_kept(self) -> bool:
        """False also for NaN."""
        return self.value >= self.bound if self.is_least else self.value <= self.bound


def check_limits(
    limits: Iterable[Limit], accept: Collection[str], differs: str = DIFFERS, mend: str = MEND
) -> dict[str, float]:
    """What was broken and accepted, accepted_METRIC to the limit.

    Raises ParityError, worded by what differs and what mends it.
    """
    broken = [one for one in limits if not one.is_kept]
    for one in broken:
        if one.name not in accept:
            raise ParityError(
                f"{differs}: {one.what} is {one.value:.6g}, the limit is {one.bound:.6g}; {mend}, "
                f"or say --accept {one.name} if that is meant"
            )
    return {f"accepted_{one.name}": one.bound for one in broken}


def check_alternation(
    figures: Mapping[str, float], min_greedy: float, accept: Collection[str] = ()
) -> dict[str, float]:
    """Raise ParityError when two graphs that take turns write what float32 would not."""
    what = "greedy agreement of graphs that take turns"
    limit = Limit("greedy", what, figures["alternating_greedy"], min_greedy, is_least=True)
    return {f"alternating_{k}": v for k, v in check_limits([limit], accept).items()}


class Tally:
    """Running sums over all compared positions."""

    def __init__(self) -> None:
        self._positions = 0
        self._max_abs_delta = 0.0
        self._max_abs_logit = 0.0
        self._kl = 0.0
        self._agreed = 0
        self._targets = 0
        self._loss_reference = 0.0
        self._loss_artifact = 0.0

    def add(
        self,
        expected: NDArray[np.float32],
        found: NDArray[np.float32],
        found_lse: NDArray[np.float32],
        targets: NDArray[np.int64],
    ) -> None:
        """Compare R positions: logits (R, V), log-sum-exp (R,), and the next tokens.

        Of the last position of a text the next token is not known: `targets` is then shorter.
        """
        expected_log = log_softmax(expected)
        found_log = log_softmax(found)
        self._positions += len(expected)
        self._max_abs_delta = max(self._max_abs_delta, float(np.abs(expected - found).max()))
        self._max_abs_logit = max(self._max_abs_logit, float(np.abs(expected).max()))
        self._kl += float((np.exp(expected_log) * (expected_log - found_log)).sum())
        self._agreed += int((expected.argmax(axis=1) == found.argmax(axis=1)).sum())
        at = np.arange(len(targets))
        self._targets += len(targets)
        self._loss_reference -= float(expected_log[at, targets].sum())
        self._loss_artifact += float((found_lse[at] - found[at, targets]).sum())

    def report(self, matches: NDArray[np.bool_]) -> Report:
        """The figures so far, with what greedy generation gave."""
        return Report(
            positions=self._positions,
            max_abs_delta=self._max_abs_delta,
            max_abs_logit=self._max_abs_logit,
            mean_kl=self._kl / self._positions,
            top1=self._agreed / self._positions,
            perplexity_checkpoint=float(np.exp(self._loss_reference / self._targets)),
            perplexity_artifact=float(np.exp(self._loss_artifact / self._targets)),
            greedy=float(matches.mean()),
            greedy_tokens=len(matches),
        )


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Log-probabilities of logits (R, V)."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
