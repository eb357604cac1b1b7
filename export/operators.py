"""Operators one after another in, the nodes and weights of a graph out.

Knows nothing of the model that they compute.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import NodeProto, helper


class Operators:
    """Nodes and weights so far; every call appends and returns the names of its outputs."""

    def __init__(self, weights: Mapping[str, NDArray[np.generic]]) -> None:
        self.nodes: list[NodeProto] = []
        self.weights = dict(weights)

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """One operator with one output: `name`, or a name of its own."""
        return self.split(op, inputs, [name or f"{op}_{len(self.nodes)}"], **attributes)[0]

    def split(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> Sequence[str]:
        """One operator with several outputs."""
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs

    def constant(self, values: ArrayLike, dtype: DTypeLike = np.int64) -> str:
        """A small constant; equal ones are stored once."""
        array = np.array(values, dtype)
        for name, known in self.weights.items():
            if name.startswith("constant_") and _is_same(known, array):
                return name
        name = f"constant_{len(self.weights)}"
        self.weights[name] = array
        return name


def _is_same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)
