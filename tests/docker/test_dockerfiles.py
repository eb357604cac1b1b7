"""What the Dockerfiles say, by hadolint and by their own lines; test_containers.py builds them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from running import ROOT

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
SERVED = [one for one in DOCKERFILES if not one.name.startswith("export")]


def of_venv(program: str) -> str:
    """Where a program of the test extra is."""
    found = shutil.which(program, path=str(Path(sys.executable).parent))
    assert found, f"{program} is missing: install the extra `test`"
    return found


def test_there_is_one_of_each_image() -> None:
    names = {one.name.removesuffix(".Dockerfile") for one in DOCKERFILES}

    assert names == {"server", "server-cpu", "gateway", "export"}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda one: one.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    done = subprocess.run([of_venv("hadolint"), path], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda one: one.name)
def test_image_runs_as_nobody_in_particular(path: Path) -> None:
    *_, last = re.findall(r"^USER (.*)$", path.read_text(), re.MULTILINE)

    assert last == "10001:10001"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda one: one.name)
def test_bases_are_pinned_and_have_no_index_of_a_builder(path: Path) -> None:
    source = path.read_text()
    bases = re.findall(r"^FROM ([^$\s]+:\S+)|^ARG TRITON=(\S+)$", source, re.MULTILINE)
    shipped = source[source.index("\nLABEL") : source.index("\nUSER")]

    assert bases
    assert all(re.search(r":\d+\.\d+(\.\d+)?-", "".join(one)) for one in bases)
    assert "PIP_" not in shipped


@pytest.mark.parametrize("path", SERVED, ids=lambda one: one.name)
def test_health_is_a_completion_and_signals_reach_the_process(path: Path) -> None:
    source = path.read_text()

    assert re.search(r'HEALTHCHECK .*\\\n\s+CMD \["python3", "-m", "(nanotriton|clients)', source)
    assert re.search(r'^ENTRYPOINT \["', source, re.MULTILINE)  # a shell would keep them
    assert "STOPSIGNAL SIGTERM" in source
