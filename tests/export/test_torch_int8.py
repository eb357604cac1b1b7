"""The yardstick of another int8: torch's, on the same windows."""

import pytest

from benchmarks.peers.rounding import measure
from benchmarks.peers.torch_int8 import QCONFIGS, TorchInt8, main
from export.parity import default_text


@pytest.mark.parametrize("name", QCONFIGS)
def test_torch_int8_is_near_the_checkpoint_and_not_equal(checkpoint, name):
    report = measure(checkpoint, TorchInt8(checkpoint, QCONFIGS[name]), default_text(), 300)
    assert 0 < report.mean_kl < 0.1
    assert report.positions >= 300
    assert report.perplexity_artifact == pytest.approx(report.perplexity_checkpoint, rel=0.1)


def test_command_prints_a_row_a_way(nanogpt, capsys):
    assert main([str(nanogpt()), "--tokens", "100"]) == 0
    assert capsys.readouterr().out.count("perplexity") == len(QCONFIGS)
    assert main(["absent"]) == 1
    assert capsys.readouterr().err.startswith("error: absent")
