"""Where a graph's keys and values come from and go to: three forms of one part of the dialect.

Comes in: a layer's new keys and values, (B, H, T, D). Goes out: all keys and values that its
queries may look at, and which of them each may. Knows nothing of the rest of the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from onnx import TensorProto, ValueInfoProto, helper

from export.architecture import Config
from export.operators import Operators
from nanotriton import contract

KvForm = Literal["static", "concat", "none"]


@dataclass(frozen=True, slots=True)
class KeysValues:
    """Names of keys and values, (B, H, M, D) each."""

    keys: str
    values: str


class Cache(Protocol):
    """`positions` names (B, T) or (1, T) int64, `visible` (B, 1, T, M) bool."""

    positions: str
    visible: str

    def append(self, layer: int, new: KeysValues) -> KeysValues:
        """Put new keys and values behind the past."""
        ...

    def inputs(self) -> list[ValueInfoProto]:
        """What the graph takes for it, besides the tokens."""
        ...

    def outputs(self) -> list[ValueInfoProto]:
        """What the graph gives back."""
        ...


class StaticCache:
    """A cache of M positions a row; the T new ones are written at `write_indices`.

    TensorScatter writes in place when past and present of a layer share an address, which
    TensorRT asks for. M is one more than the context, as the runners have it. What was never
    written must be finite: it is multiplied by zero.
    """

    def __init__(self, ops: Operators, config: Config, dtype: int) -> None:
        self._ops = ops
        self._caches = _Caches(config, dtype, config.context + 1)
        self.positions = contract.GRAPH_POSITION_IDS
        places = ops.constant(np.arange(config.context + 1)[None, None, None])  # (1, 1, 1, M)
        self.visible = ops.node("LessOrEqual", places, _column(ops, self.positions))

    def append(self, layer: int, new: KeysValues) -> KeysValues:
        """Both caches, (B, H, M, D), with the new rows in their places."""
        return KeysValues(self._write(layer, "k", new.keys), self._write(layer, "v", new.values))

    def _write(self, layer: int, kind: str, new: str) -> str:
        past, present = contract.past_name(layer, kind), contract.present_name(layer, kind)
        where = contract.GRAPH_WRITE_INDICES
        return self._ops.node("TensorScatter", past, new, where, name=present, axis=2)

    def inputs(self) -> list[ValueInfoProto]:
        """Positions, where to write, and the caches."""
        return [
            declare(contract.GRAPH_POSITION_IDS, TensorProto.INT64, "B", "T"),
            declare(contract.GRAPH_WRITE_INDICES, TensorProto.INT64, "B"),
            *self._caches.declare(contract.past_name),
        ]

    def outputs(self) -> list[ValueInfoProto]:
        """The caches, at the addresses of those that came in."""
        return self._caches.declare(contract.present_name)


class ConcatCache:
    """A past of P tokens and a present of P + T; row b holds `position_ids[b, 0]` of the past.

    So rows of different lengths share a batch: a past that is shorter than P is padded on its
    right, and what the padding holds is never looked at.
    """

    def __init__(self, ops: Operators, config: Config, dtype: int) -> None:
        self._ops = ops
        self._past = _Caches(config, dtype, "P")
        self._present = _Caches(config, dtype, "P+T")
        self.positions = contract.GRAPH_POSITION_IDS
        zero, one, two, three = (ops.constant([i]) for i in range(4))
        shape = ops.node("Shape", contract.past_name(0, "k"))
        places = ops.constant(np.arange(config.context)[None])
        size = ops.node("Slice", shape, two, three)
        past = ops.node("Slice", places, zero, size, one)  # (1, P)
        length = ops.node("Slice", self.positions, zero, one, one)  # (B, 1)
        never = ops.constant(config.context)
        held = ops.node("Where", ops.node("Less", past, length), past, never)  # (B, P)
        keys = ops.node("Concat", held, self.positions, axis=1)  # (B, P + T)
        keys = ops.node("Unsqueeze", keys, ops.constant([1, 2]))
        self.visible = ops.node("LessOrEqual", keys, _column(ops, self.positions))

    def append(self, layer: int, new: KeysValues) -> KeysValues:
        """Past and new ones, (B, H, P + T, D)."""
        return KeysValues(self._join(layer, "k", new.keys), self._join(layer, "v", new.values))

    def _join(self, layer: int, kind: str, new: str) -> str:
        past, present = contract.past_name(layer, kind), contract.present_name(layer, kind)
        return self._ops.node("Concat", past, new, name=present, axis=2)

    def inputs(self) -> list[ValueInfoProto]:
        """Positions and the past."""
        positions = declare(contract.GRAPH_POSITION_IDS, TensorProto.INT64, "B", "T")
        return [positions, *self._past.declare(contract.past_name)]

    def outputs(self) -> list[ValueInfoProto]:
        """The present."""
        return self._present.declare(contract.present_name)


class NoCache:
    """No past: token t of every row stands at position t."""

    def __init__(self, ops: Operators, config: Config, _dtype: int) -> None:
        zero, one, two = (ops.constant([i]) for i in range(3))
        shape = ops.node("Shape", contract.GRAPH_INPUT_IDS)
        places = ops.constant(np.arange(config.context)[None])
        size = ops.node("Slice", shape, one, two)
        self.positions = ops.node("Slice", places, zero, size, one)  # (1, T)
        keys = ops.node("Unsqueeze", self.positions, ops.constant([1, 2]))
        self.visible = ops.node("LessOrEqual", keys, _column(ops, self.positions))

    def append(self, _layer: int, new: KeysValues) -> KeysValues:
        """The new ones are all there are."""
        return new

    def inputs(self) -> list[ValueInfoProto]:
        """Nothing."""
        return []

    def outputs(self) -> list[ValueInfoProto]:
        """Nothing."""
        return []


@dataclass(frozen=True, slots=True)
class _Caches:
    """Keys and values of every layer, `length` positions long."""

    config: Config
    dtype: int
    length: int | str

    def declare(self, name: Callable[[int, str], str]) -> list[ValueInfoProto]:
        heads, head_dim = self.config.num_heads, self.config.head_dim
        return [
            declare(name(layer, kind), self.dtype, "B", heads, self.length, head_dim)
            for layer in range(self.config.num_layers)
            for kind in ("k", "v")
        ]


def declare(name: str, dtype: int, *axes: str | int) -> ValueInfoProto:
    """An input or output with named axes."""
    return helper.make_tensor_value_info(name, dtype, axes)


def _column(ops: Operators, positions: str) -> str:
    """(B, T) to (B, 1, T, 1): each query's own position."""
    return ops.node("Unsqueeze", positions, ops.constant([1, 3]))
