"""The kernels of every instruction set, under the address and undefined-behaviour sanitizers."""

import shutil
import subprocess
from pathlib import Path

import pytest
from running import ROOT

FLAGS = ["-std=c++17", "-O1", "-g", "-Wno-psabi", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """By kernel its largest difference from sums in double."""
    compiler = shutil.which("g++")
    assert compiler, "these tests build C++: install g++ (apt-get install g++)"
    program = tmp_path_factory.mktemp("kernels") / "kernels"
    source = Path(ROOT) / "tests" / "native" / "kernels.cpp"
    options = [*FLAGS, "-fsanitize=address,undefined", "-o", str(program)]
    subprocess.run([compiler, *options, str(source)], check=True, timeout=250)
    done = subprocess.run([program], check=True, capture_output=True, text=True, timeout=250)
    return {name: float(value) for name, value in map(str.split, done.stdout.splitlines())}


def test_kernels_stay_in_their_buffers_and_near_the_exact_sums(found: dict[str, float]) -> None:
    assert found.keys() >= {"plain-float32", "plain-int8"}
    assert max(found.values()) < 1e-5, found
