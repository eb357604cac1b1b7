"""Two sets of logits in, the figures that compare them and their limits out.

Knows nothing of runners, of slots or of the model.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from nanotriton.errors import ParityError

SMALLEST_LOGIT = 1e-6  # of a model whose logits are all zero


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What still counts as the same model; every field is a command line option of its own."""

    max_relative_delta: float
    max_kl: float
    min_top1: float
    min_greedy: float


TOLERANCES = {
    # Only the order of float32 sums differs: about 1e-6 of the largest logit at 12 layers, a
    # hundredth of the limit. Greedy text is equal but for ties, which don't count.
    "fp32": Tolerance(max_relative_delta=1e-4, max_kl=1e-6, min_top1=0.999, min_greedy=1.0),
    # 8 bits a weight and an activation: rounding decides near-ties alone, so the distribution
    # stays within three thousandths of a nat (measured: 1.4e-3 to 1.7e-3), the limit that counts.
    # How many near-ties there are depends on the model and the text: the demo keeps the best token
    # in 95.1 to 97.9 of 100 places (1,024 tokens of the standard library, 16,459 of its held-out
    # files), so this only stops what is broken.
    # A single logit may move far and a greedy text turn at a near-tie: no limit on both.
    "int8": Tolerance(max_relative_delta=np.inf, max_kl=3e-3, min_top1=0.94, min_greedy=0.0),
    # 4 bits in the MLPs (measured on the demo: KL 6.9e-3, best token kept in 95.2 of 100 places,
    # 98 of 100 greedy tokens those of float32 when two graphs take turns). llama.cpp's Q4_0
    # rounding of the blocks gives 4.3e-2. The limits stop what is broken or does not fit into 4
    # bits: all linears in 4 bits, the head too, give 2e-2.
    "int4": Tolerance(max_relative_delta=np.inf, max_kl=2e-2, min_top1=0.88, min_greedy=0.85),
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

    def to_dict(self) -> dict[str, float]:
        """As it stands in the manifest."""
        return asdict(self)

    def check(self, tolerance: Tolerance) -> None:
        """Raise ParityError that names the first figure outside of the tolerance."""
        relative = self.max_abs_delta / max(self.max_abs_logit, SMALLEST_LOGIT)
        for what, value, limit, inside in (
            ("top-1 agreement", self.top1, tolerance.min_top1, self.top1 >= tolerance.min_top1),
            ("mean KL", self.mean_kl, tolerance.max_kl, self.mean_kl <= tolerance.max_kl),
            (
                "largest logit difference relative to the largest logit",
                relative,
                tolerance.max_relative_delta,
                relative <= tolerance.max_relative_delta,
            ),
            (
                "greedy agreement",
                self.greedy,
                tolerance.min_greedy,
                self.greedy >= tolerance.min_greedy,
            ),
        ):
            if not inside:
                raise ParityError(
                    f"the artifact differs from its checkpoint: {what} is {value:.6g}, the limit "
                    f"is {limit:.6g}; nothing was written: export fp32, or loosen the limit if "
                    "that is meant"
                )


def check_alternation(figures: Mapping[str, float], min_greedy: float) -> None:
    """Raise ParityError when two graphs that take turns write what float32 would not."""
    if not figures["alternating_greedy"] >= min_greedy:
        raise ParityError(
            "the artifact differs from its checkpoint: greedy agreement of graphs that take turns "
            f"is {figures['alternating_greedy']:.6g}, the limit is {min_greedy:.6g}; nothing was "
            "written: export int8, or loosen the limit if that is meant"
        )


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
        expected_log = _log_softmax(expected)
        found_log = _log_softmax(found)
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


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
