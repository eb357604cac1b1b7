import re

import pytest

from nanotriton.errors import RunnerError
from nanotriton.manifest import PlanTarget
from nanotriton.runners.plan_header import PlanHeader, check_plan, read_plan_header

TARGET = PlanTarget("10.15.1.29", "90", prefill_chunk=128, max_batch=32)


@pytest.fixture
def write_plan(tmp_path):
    """Writes a file that begins as a plan does."""

    def write(magic=b"ftrt", version=(10, 15, 1, 29), size=200):
        path = tmp_path / "model.plan"
        path.write_bytes((magic.ljust(0x18, b"\0") + bytes(version)).ljust(200, b"\7")[:size])
        return path

    return write


@pytest.mark.parametrize(("magic", "flavour"), [(b"ftrt", "TensorRT"), (b"vtrt", "TensorRT-RTX")])
def test_header_tells_flavour_and_version(write_plan, magic, flavour):
    assert read_plan_header(write_plan(magic)) == PlanHeader(flavour, "10.15.1.29")


def test_plan_of_this_machine_is_taken(write_plan):
    check_plan(write_plan(), TARGET, "10.15.1.30", "90")


@pytest.mark.parametrize(
    ("version", "capability", "words"),
    [
        ("10.14.1.29", "90", "built by TensorRT 10.15.1.29, this machine has 10.14.1.29"),
        ("10.15.1.29", "80", "built for SM 90, this GPU is SM 80"),
    ],
    ids=["version", "gpu"],
)
def test_plan_of_another_machine_is_refused(write_plan, version, capability, words):
    with pytest.raises(RunnerError, match=re.escape(words)):
        check_plan(write_plan(), TARGET, version, capability)


def test_plan_of_the_builder_check_is_refused(write_plan):
    path = write_plan(b"vtrt", (1, 7, 1, 116))
    with pytest.raises(RunnerError, match=r"TensorRT-RTX 1\.7\.1\.116, which only shows"):
        check_plan(path, TARGET, "1.7.1.116", "90")


@pytest.mark.parametrize("size", [0, 3, 31], ids=["empty", "magic cut", "version cut"])
def test_truncated_plan_is_refused(write_plan, size):
    with pytest.raises(RunnerError, match=f"no TensorRT plan .it has {size} bytes"):
        read_plan_header(write_plan(size=size))


def test_missing_or_other_file_is_refused(write_plan, tmp_path):
    with pytest.raises(RunnerError, match="can't be read"):
        read_plan_header(tmp_path / "none")
    with pytest.raises(RunnerError, match="begins with b'ONNX'"):
        read_plan_header(write_plan(b"ONNX"))
