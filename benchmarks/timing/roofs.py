"""What this machine can do at the most: bytes read and products computed a second.

Comes in: sizes and numbers of threads. Goes out: rates. Knows nothing of models; the fastest of
several measurements is the caller's to take.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LEAST_READ_BYTES = 1 << 26  # a pass over less is repeated until so much was read
REPEATS = 5  # short ones, of which the fastest counts: others want the processor too
LEAST_SHARE_BYTES = 1 << 20  # of a thread, so that a pass costs more than its call
ROWS = 256  # of a product that computes rather than reads
OPSET, IR_VERSION = 20, 9

# Of a product (N, inputs) x (inputs, outputs).
Shape = tuple[int, int]


class Reader:
    """Threads that read a buffer of so many bytes, each its own share.

    As large as what a step reads, so that what fits into the processor's caches is read from there.
    """

    def __init__(self, num_bytes: int, num_threads: int) -> None:
        self._pool = ThreadPoolExecutor(num_threads)
        words = max(num_bytes // num_threads, LEAST_SHARE_BYTES) // 4
        self._shares = [np.ones(words, np.int32) for _ in range(num_threads)]
        self._num_passes = -(-LEAST_READ_BYTES // (4 * words * num_threads))
        self._seconds()  # touches the pages, and starts the threads

    def rate(self) -> float:
        """Bytes a second."""
        seconds = min(self._seconds() for _ in range(REPEATS))
        return self._num_passes * sum(share.nbytes for share in self._shares) / seconds

    def _seconds(self) -> float:
        started = time.perf_counter()
        list(self._pool.map(self._read, self._shares))
        return time.perf_counter() - started

    def _read(self, share: NDArray[np.int32]) -> None:
        for _ in range(self._num_passes):
            share.max()  # vectorized, and without Python's lock


@dataclass(frozen=True, slots=True)
class Product:
    """A matrix product of ONNX Runtime with constant weights, as the model's linears are."""

    session: ort.InferenceSession
    rows: NDArray[Any]  # (N, inputs)
    num_operations: int

    def seconds(self) -> float:
        """Of the fastest run."""
        return min(self._seconds() for _ in range(REPEATS))

    def _seconds(self) -> float:
        started = time.perf_counter()
        self.session.run(None, {"x": self.rows})
        return time.perf_counter() - started


def products(shapes: Sequence[Shape], dtype: str, num_threads: int) -> list[Product]:
    """One of each shape, of "float32" or "int8" numbers."""
    return [_product(shape, dtype, num_threads) for shape in shapes]


def _product(shape: Shape, dtype: str, num_threads: int) -> Product:
    num_inputs, num_outputs = shape
    random = np.random.default_rng(0)
    weights: NDArray[Any]
    rows: NDArray[Any]
    if dtype == "float32":
        operator, kind, result = "MatMul", TensorProto.FLOAT, TensorProto.FLOAT
        weights = random.standard_normal(shape, np.float32)
        rows = random.standard_normal((ROWS, num_inputs), np.float32)
    else:
        operator, kind, result = "MatMulInteger", TensorProto.UINT8, TensorProto.INT32
        weights = random.integers(-127, 128, shape, np.int8)
        rows = random.integers(0, 256, (ROWS, num_inputs), np.uint8)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", kind, [ROWS, num_inputs])],
        [helper.make_tensor_value_info("y", result, [ROWS, num_outputs])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = ort.InferenceSession(model.SerializeToString(), options)
    return Product(session, rows, 2 * ROWS * num_inputs * num_outputs)
