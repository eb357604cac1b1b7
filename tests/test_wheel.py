"""The wheel holds the package `nanotriton` alone, and its dependencies hold no torch."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from running import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The project's wheel, built here."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel_holds_nanotriton_alone(wheel: zipfile.ZipFile) -> None:
    folders = {Path(name).parts[0] for name in wheel.namelist()}

    assert {name for name in folders if not name.endswith(".dist-info")} == {"nanotriton"}
    assert "nanotriton/engine/process.py" in wheel.namelist()
    assert "nanotriton/py.typed" in wheel.namelist()


def test_serving_needs_no_torch(wheel: zipfile.ZipFile) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    needs = [line for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line]

    assert len(needs) == 5
    assert not [line for line in needs if "torch" in line or "triton" in line]
