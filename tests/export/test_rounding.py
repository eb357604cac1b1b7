"""The yardstick of other engines' rounding; their environments are no part of the tests."""

import shutil
import subprocess
import sys

import pytest

from benchmarks.peers.catalogue import PeerError
from benchmarks.peers.rounding import ROUNDINGS, main, measure, round_checkpoint
from export.parity import default_text
from export.reference import Reference


def test_checkpoint_itself_has_no_distance(checkpoint):
    report = measure(checkpoint, Reference(checkpoint), default_text(), 300)
    assert report.mean_kl == pytest.approx(0, abs=1e-9)
    assert report.positions >= 300
    assert report.top1 == 1


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda one: one.name)
def test_engine_without_its_package_is_a_line(checkpoint, tmp_path, rounding):
    folder = tmp_path / rounding.engine
    words = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(words, check=True)
    with pytest.raises(PeerError, match=f"{rounding.name} can't round .* No module named"):
        round_checkpoint(checkpoint, rounding, tmp_path)
    shutil.rmtree(folder)
    with pytest.raises(PeerError, match=f"peers --install {rounding.engine}"):
        round_checkpoint(checkpoint, rounding, tmp_path)


def test_command_without_environments_says_what_to_install(nanogpt, tmp_path, capsys):
    assert main([str(nanogpt()), "--venvs", str(tmp_path)]) == 1
    assert "llama.cpp Q8_0 is not installed" in capsys.readouterr().err
