"""The wheel holds the package `nanotriton` alone, and its dependencies hold no torch."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from running import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The project's wheel, built here."""
    return build_wheel(copy_sources(tmp_path_factory.mktemp("wheel")))


def copy_sources(folder: Path) -> Path:
    """What a wheel is made of, without what was built here before."""
    sources = folder / "sources"
    shutil.copytree(
        ROOT / "nanotriton",
        sources / "nanotriton",
        ignore=shutil.ignore_patterns("*.so", "__pycache__"),
    )
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, sources)
    return sources


def build_wheel(sources: Path, **environment: str) -> zipfile.ZipFile:
    """Built by pip in its own way."""
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(sources)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(sources)]
    env = os.environ | environment
    subprocess.run(command, check=True, capture_output=True, timeout=200, env=env)
    return zipfile.ZipFile(next(sources.glob("*.whl")))


def libraries_of(wheel: zipfile.ZipFile) -> list[str]:
    return [name for name in wheel.namelist() if name.endswith(".so")]


def test_wheel_holds_nanotriton_alone(wheel: zipfile.ZipFile) -> None:
    folders = {Path(name).parts[0] for name in wheel.namelist()}

    assert {name for name in folders if not name.endswith(".dist-info")} == {"nanotriton"}
    assert "nanotriton/engine/process.py" in wheel.namelist()
    assert "nanotriton/py.typed" in wheel.namelist()


def test_wheel_holds_the_operator_built_for_this_machine(wheel: zipfile.ZipFile) -> None:
    assert libraries_of(wheel) == [f"nanotriton/native/attention{EXTENSION_SUFFIXES[0]}"]


def test_machine_without_a_compiler_gets_the_rest(tmp_path: Path) -> None:
    wheel = build_wheel(copy_sources(tmp_path), CC="no-compiler", CXX="no-compiler")

    assert libraries_of(wheel) == []
    assert "nanotriton/engine/process.py" in wheel.namelist()


def test_serving_needs_no_torch(wheel: zipfile.ZipFile) -> None:
    metadata = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    needs = [line for line in lines if line.startswith("Requires-Dist") and "extra ==" not in line]

    assert len(needs) == 5
    assert not [line for line in needs if "torch" in line or "triton" in line]
