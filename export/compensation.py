"""A 4-bit weight and rows that entered its linear in, codes that err less on such rows out.

GPTQ (Frantar et al., arXiv:2210.17323): the weights of an input channel are rounded one channel
after the other, and what the rounding of one takes from the products, the channels to come make
up for, as far as they are correlated with it. Scales and zero points stay those of plain rounding
(`export.blockwise`), so channels can be taken in any order: the strongest first. Costs nothing
when the model runs. Knows nothing of where the rows come from.

A weight that errs no less so, or whose rows' moments are no good, keeps its plain rounding, and a
sentence says so.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from export.blockwise import Blocks

# Of the channels' mean power, added to each: the paper's 1 %. Makes any moments invertible.
DAMPING = 0.01
ROUNDING = 1e-6  # of sums: a weight that fits its codes, or reads zeros only, errs as before
STEP = 32  # channels whose rounding reaches the ones behind them in one product

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Compensation:
    """Makes up for rounding where rows are known: `rows` (N, in) by the name of what is read."""

    rows: Mapping[str, Floats]
    progress: Callable[[str], None]

    def __call__(self, node: NodeProto, weight: NDArray[Any], plain: Blocks) -> Blocks:
        """Better codes for the weight (in, out) of a product, or the plain ones."""
        read, name = node.input[:2]
        rows = self.rows[read]
        with np.errstate(over="ignore", invalid="ignore"):  # refused by `compensate`
            moments = rows.T @ rows
        try:
            return compensate(weight, plain, moments.astype(np.float64))
        except np.linalg.LinAlgError as error:
            self.progress(f"calibration: {name} is rounded without it: {error}")
            return plain


def compensate(weight: NDArray[Any], plain: Blocks, moments: Doubles) -> Blocks:
    """Codes for a weight (in, out) given its rows' second moments (in, in), X^T X.

    Raises LinAlgError when the moments are no such thing, or better codes aren't found.
    """
    if not np.isfinite(moments).all():
        raise np.linalg.LinAlgError("its inputs overflow")
    num_inputs, num_outputs = weight.shape
    power = np.diag(moments)
    order = np.argsort(-power, kind="stable")
    damped = moments[np.ix_(order, order)]
    # Dead channels get it alone: they are rounded plainly. All dead: any value does.
    damped[np.diag_indices(num_inputs)] += DAMPING * power.mean() or 1.0
    factor = _inverse_factor(damped)
    scales = plain.scales.T.astype(np.float64)  # (blocks, out)
    zero_points = plain.zero_points.T.astype(np.float64)
    largest = 2**plain.bits - 1
    block_size = plain.codes.shape[-1]
    rest = weight[order].astype(np.float64)  # (in, out)
    codes = plain.codes.reshape(num_outputs, -1).copy()
    loss = 0.0
    for start in range(0, num_inputs, STEP):
        stop = min(start + STEP, num_inputs)
        errors = np.empty((stop - start, num_outputs))
        for at in range(start, stop):
            block = order[at] // block_size
            steps = np.rint(rest[at] / scales[block])
            steps = np.clip(steps, -zero_points[block], largest - zero_points[block])
            codes[:, order[at]] = steps + zero_points[block]
            errors[at - start] = (rest[at] - steps * scales[block]) / factor[at, at]
            rest[at + 1 : stop] -= np.outer(factor[at, at + 1 : stop], errors[at - start])
        rest[stop:] -= factor[start:stop, stop:].T @ errors
        loss += float(np.square(errors).sum())
    missed = (plain.restored(num_inputs) - weight)[order]
    plain_loss = float((missed * (damped @ missed)).sum())
    if not loss <= plain_loss * (1 + ROUNDING):  # nor when it is NaN
        raise np.linalg.LinAlgError("it errs less so")
    return dataclasses.replace(plain, codes=codes.reshape(plain.codes.shape))


def _inverse_factor(matrix: Doubles) -> Doubles:
    """The upper triangular U with U^T U = matrix^-1, without the inverse itself."""
    # matrix = R R^T with R upper triangular, a Cholesky factor from the other end; U = R^-1.
    factor = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
    return _inverse_triangle(np.ascontiguousarray(factor))  # BLAS takes no negative strides


def _inverse_triangle(upper: Doubles) -> Doubles:
    """By halves, a sixth of the work of a general inverse."""
    size = len(upper)
    if size <= STEP:
        return np.triu(np.linalg.inv(upper))
    half = size // 2
    result = np.zeros_like(upper)
    first, second = _inverse_triangle(upper[:half, :half]), _inverse_triangle(upper[half:, half:])
    result[:half, :half], result[half:, half:] = first, second
    result[:half, half:] = -first @ upper[:half, half:] @ second
    return result
