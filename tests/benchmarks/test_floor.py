"""The floor's arithmetic: what a step must read and compute, and the time that follows."""

import time
from types import SimpleNamespace

import pytest

from benchmarks.timing.floor import Work, floor_of, precision_of, shapes_of, work_of
from benchmarks.timing.roofs import LEAST_READ_BYTES, ROWS, Reader, products

# GPT-2's smallest: 12 layers of 12 * 768 * 768 weights, and a head of 50257 * 768.
GPT2 = SimpleNamespace(
    num_layers=12,
    num_heads=12,
    head_dim=64,
    vocab_size=50257,
    kv_dtype="float32",
    precision="auto",
    decode_graph=SimpleNamespace(file="model.int4.onnx", precision="int4"),
)
BLOCKS, HEAD = 12 * 12 * 768 * 768, 50257 * 768


@pytest.mark.parametrize(
    ("precision", "num_rows", "num_cached", "expected"),
    [
        ("int4", 1, 300, Work((BLOCKS + HEAD) / 2, 300 * 73728, 2 * (BLOCKS + HEAD))),
        ("int8", 32, 9600, Work(BLOCKS + HEAD, 9600 * 73728, 64 * (BLOCKS + HEAD))),
        ("fp32", 0, 256, Work(4 * (BLOCKS + HEAD), 256 * 73728, 2 * (256 * BLOCKS + HEAD))),
    ],
    ids=["one row", "32 rows", "a prompt"],
)
def test_step_reads_every_weight_once_and_multiplies_it_by_each_row(
    precision, num_rows, num_cached, expected
):
    assert work_of(GPT2, precision, num_rows, num_cached) == expected


def test_linears_are_those_of_a_block_and_the_head():
    assert sum(one * other for one, other in shapes_of(GPT2)) == BLOCKS // 12 + HEAD


@pytest.mark.parametrize(
    ("graph", "precision"), [("model.int4.onnx", "int4"), ("model.onnx", "int8"), ("", "int8")]
)
def test_precision_is_that_of_the_graph_that_answered(graph, precision):
    assert precision_of(graph, GPT2) == precision


@pytest.mark.parametrize(
    ("operations", "least_ms"), [(1e9, 2.0), (8e9, 4.0)], ids=["reading", "computing"]
)
def test_least_time_is_the_longer_of_reading_and_computing(operations, least_ms):
    work = Work(weight_bytes=15e6, kv_bytes=5e6, num_operations=operations)

    found = floor_of(
        "decode 8", "int8", work, [0.006, 0.008, 0.012], bytes_s=1e10, operations_s=2e12
    )

    assert found.least_ms == pytest.approx(least_ms)
    assert found.ratio == pytest.approx(8 / least_ms)
    assert (found.low, found.high) == pytest.approx((7 / least_ms, 10 / least_ms))


@pytest.mark.parametrize("num_bytes", [1, 3 << 20, 1 << 28], ids=["tiny", "cached", "large"])
def test_buffer_of_any_size_is_read_for_long_enough_to_be_timed(num_bytes):
    reader = Reader(num_bytes, num_threads=2)

    started = time.perf_counter()
    rate = reader.rate()

    assert LEAST_READ_BYTES / rate <= time.perf_counter() - started


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_products_compute_what_they_count(dtype):
    (product,) = products([(64, 96)], dtype, num_threads=1)

    assert product.num_operations == 2 * ROWS * 64 * 96
    assert product.seconds() > 0
