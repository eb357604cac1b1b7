"""The floor under a step: the least time that its bytes and products take on this machine.

Comes in: an exported version. Goes out: for decode steps and a prompt what they must read and
compute, how fast this machine reads and computes, the time that follows, and how far above it the
engine's own step is. Reading and computing may overlap, so the floor is the longer of the two, at
the greatest rates that were seen. The engine and the machine's rates take turns. No server.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.timing.engine_steps import EngineSteps, Steps
from benchmarks.timing.roofs import Product, Reader, Shape, products
from nanotriton.contract import KV_DTYPES
from nanotriton.manifest import Manifest

BATCHES = (1, 8, 32)
WEIGHT_BYTES = {"fp32": 4.0, "int8": 1.0, "int4": 0.5}
# 4-bit weights are multiplied as numbers of 8 bits (export/blockwise.py).
PRODUCT_DTYPES = {"fp32": "float32", "int8": "int8", "int4": "int8"}


@dataclass(frozen=True, slots=True)
class Work:
    """What a step can't do without: bytes of weights, of keys and values, and operations.

    Scales, activations and what attention computes are left out: a floor may be too low.
    """

    weight_bytes: float
    kv_bytes: float
    num_operations: float


@dataclass(frozen=True, slots=True)
class Floor:
    """A kind of step; `ratio` is its median time over the least one, `low` and `high` quartiles.

    Rates are in billions a second, of bytes and of operations.
    """

    kind: str
    precision: str
    weight_mb: float
    kv_mb: float
    giga_operations: float
    read_gb_s: float
    compute_gop_s: float
    read_ms: float
    compute_ms: float
    least_ms: float
    step_ms: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of step under measurement; rates in bytes a second."""

    name: str
    precision: str
    work: Work
    run: Callable[[], Steps]
    reader: Reader
    seconds: list[float] = field(default_factory=list)
    read_rates: list[float] = field(default_factory=list)


def measure_floor(
    folder: Path, num_threads: int, num_rounds: int, batches: Sequence[int] = BATCHES
) -> list[Floor]:
    """Decode steps of these batches and a prompt, in turn with what the machine can do."""
    steps = EngineSteps(folder, max(batches), num_threads)
    kinds = [
        _kind(f"decode {num_rows}", num_rows, partial(steps.decode, num_rows), steps, num_threads)
        for num_rows in batches
    ]
    kinds.append(_kind(f"prefill {steps.chunk}", 0, steps.prefill, steps, num_threads))
    shapes = shapes_of(steps.manifest)
    dtypes = {PRODUCT_DTYPES[one.precision] for one in kinds}
    measured = {dtype: products(shapes, dtype, num_threads) for dtype in dtypes}
    rates: dict[str, list[float]] = {dtype: [_rate(one)] for dtype, one in measured.items()}
    for _ in range(num_rounds):
        for dtype, found in rates.items():
            found.append(_rate(measured[dtype]))
        for kind in kinds:
            kind.read_rates.append(kind.reader.rate())
            kind.seconds.extend(kind.run().seconds)
    return [
        floor_of(
            one.name,
            one.precision,
            one.work,
            one.seconds,
            bytes_s=max(one.read_rates),
            operations_s=max(rates[PRODUCT_DTYPES[one.precision]]),
        )
        for one in kinds
    ]


def shapes_of(manifest: Manifest) -> list[Shape]:
    """The linears of a block, and the head."""
    width = manifest.num_heads * manifest.head_dim
    blocks = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    return [*blocks, (width, manifest.vocab_size)]


def work_of(manifest: Manifest, precision: str, num_rows: int, num_cached: int) -> Work:
    """Of a step of `num_rows` that decode and hold so many tokens in all, or of a prompt (0 rows).

    Every weight is read once, whatever the number of rows, and every key and value as well. Of a
    prompt the last token alone goes through the head.
    """
    *blocks, head = (num_inputs * num_outputs for num_inputs, num_outputs in shapes_of(manifest))
    in_blocks = manifest.num_layers * sum(blocks)
    width = manifest.num_heads * manifest.head_dim
    token_bytes = 2 * manifest.num_layers * width * KV_DTYPES[manifest.kv_dtype]
    through_blocks, through_head = (num_rows, num_rows) if num_rows else (num_cached, 1)
    return Work(
        weight_bytes=(in_blocks + head) * WEIGHT_BYTES[precision],
        kv_bytes=num_cached * token_bytes,
        num_operations=2 * (through_blocks * in_blocks + through_head * head),
    )


def precision_of(graph: str, manifest: Manifest) -> str:
    """Of the weights of the graph that answered, by its file's name."""
    if manifest.decode_graph is not None and graph == manifest.decode_graph.file:
        return manifest.decode_graph.precision
    return "int8" if manifest.precision == "auto" else manifest.precision


def floor_of(
    kind: str,
    precision: str,
    work: Work,
    seconds: Sequence[float],
    *,
    bytes_s: float,
    operations_s: float,
) -> Floor:
    """The figures of steps that took so long, on a machine of these rates."""
    read_ms = (work.weight_bytes + work.kv_bytes) / bytes_s * 1e3
    compute_ms = work.num_operations / operations_s * 1e3
    least_ms = max(read_ms, compute_ms)
    low, median, high = np.percentile(np.array(seconds) * 1e3, (25, 50, 75)).tolist()
    return Floor(
        kind=kind,
        precision=precision,
        weight_mb=work.weight_bytes / 1e6,
        kv_mb=work.kv_bytes / 1e6,
        giga_operations=work.num_operations / 1e9,
        read_gb_s=bytes_s / 1e9,
        compute_gop_s=operations_s / 1e9,
        read_ms=read_ms,
        compute_ms=compute_ms,
        least_ms=least_ms,
        step_ms=median,
        ratio=median / least_ms,
        low=low / least_ms,
        high=high / least_ms,
    )


def _kind(
    name: str, num_rows: int, run: Callable[[], Steps], steps: EngineSteps, num_threads: int
) -> _Kind:
    """Run once, which warms up and tells which graph answers and how much it reads."""
    first = run()
    precision = precision_of(first.graph, steps.manifest)
    work = work_of(steps.manifest, precision, num_rows, first.num_cached)
    reader = Reader(int(work.weight_bytes + work.kv_bytes), num_threads)
    return _Kind(name, precision, work, run, reader)


def _rate(found: Sequence[Product]) -> float:
    """Operations a second over all shapes."""
    return sum(one.num_operations for one in found) / sum(one.seconds() for one in found)
