"""Every runner there is, opened over something tiny: what the conformance suite runs."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
from plans import HAS_TENSORRT, stand_in

from nanotriton.runners.base import Runner
from nanotriton.runners.fake import FakeRunner
from nanotriton.runners.graphs import BY_ROWS, GraphUse
from nanotriton.runners.ort import OrtRunner
from nanotriton.runners.trt import TrtRunner

STANDARD = GraphUse(native_attention=False)
ArtifactOf = Callable[[str], Path]


@dataclass(frozen=True)
class Kind:
    """A runner that must conform; it has a context of 64 and a vocabulary of 283.

    `open` takes the tiny artifacts and a number of slots. `atol` is how far the logits of two ways
    to the same tokens may lie apart: rounding, 2e-6 as measured, and with 8-bit activations room
    for one that falls on the other side of a step.
    """

    open: Callable[[ArtifactOf, int], Runner]
    atol: float


def ort(precision: str, use: GraphUse = BY_ROWS) -> Callable[[ArtifactOf, int], Runner]:
    """Opens ONNX Runtime over the tiny model in a precision."""
    return lambda artifact_of, num_slots: OrtRunner(artifact_of(precision), num_slots, 1, use)


def trt(precision: str) -> Callable[[ArtifactOf, int], Runner]:
    """Opens TensorRT, or its stand-in, over a plan of the tiny model."""
    return lambda artifact_of, num_slots: TrtRunner(artifact_of(f"trt-{precision}"), num_slots)


def fake(_: ArtifactOf, num_slots: int) -> Runner:
    """Opens the fake runner."""
    return FakeRunner(num_slots, context=64, vocab_size=283, num_candidates=64)


# A new runner joins the suite with one line here, and with its name where a test lists some.
KINDS = {
    "fake": Kind(fake, atol=0.0),
    "ort-fp32": Kind(ort("fp32"), atol=1e-5),
    "ort-int8": Kind(ort("int8"), atol=0.05),
    "ort-fp32-standard": Kind(ort("fp32", STANDARD), atol=1e-5),
    "ort-fp32+kv8": Kind(ort("fp32+kv8"), atol=2e-3),
    "ort-fp32+kv8-standard": Kind(ort("fp32+kv8", STANDARD), atol=2e-3),
    "ort-int4": Kind(ort("int4"), atol=0.05),
    "ort-auto": Kind(ort("auto"), atol=0.05),
    "trt-fp32": Kind(trt("fp32"), atol=1e-5),
    "trt-fp16": Kind(trt("fp16"), atol=0.02),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    return KINDS[request.param]


@pytest.fixture(autouse=True)
def gpu() -> Iterator[None]:
    """The GPU of this machine, or a stand-in that is fresh in every test."""
    with nullcontext() if HAS_TENSORRT else stand_in():
        yield


@pytest.fixture
def cuda(gpu: None) -> ModuleType:  # noqa: ARG001 (it must be there first)
    """CUDA's runtime as the test has it."""
    return importlib.import_module("cuda.bindings.runtime")


@pytest.fixture
def trt(gpu: None) -> ModuleType:  # noqa: ARG001
    """TensorRT as the test has it."""
    return importlib.import_module("tensorrt")


@pytest.fixture
def runner(kind: Kind, artifact_of: ArtifactOf) -> Iterator[Runner]:
    """A fresh runner of four slots."""
    opened = kind.open(artifact_of, 4)
    yield opened
    if isinstance(opened, TrtRunner):
        opened.close()
