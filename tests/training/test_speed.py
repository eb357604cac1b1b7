"""Speed: the arithmetic of a step, and a peak that is one."""

import pytest
import torch

from training.gpt import GPT, GPTConfig
from training.speed import Speed, flops_per_token, measure_peak


def test_flops_are_those_of_every_matrix_product() -> None:
    model = GPT(GPTConfig(block_size=16, vocab_size=64, n_layer=2, n_head=2, n_embd=8, bias=False))
    weights = 2 * (4 * 8 * 8 + 2 * 4 * 8 * 8) + 64 * 8  # attention and MLP of each layer, output
    norms = 5 * 8  # counted with the rest, as PaLM does
    attention = 2 * 2 * 16 * 8  # a layer's two products of a token with T others: 2 T (H D) each

    # 2 operations a weight forward, 4 backward; attention likewise thrice
    assert flops_per_token(model) == 6 * (weights + norms) + 3 * 2 * 2 * attention / 2


def test_peak_share_is_of_all_processes() -> None:
    assert Speed(flops_per_token=1e6, peak_flops=1e9).peak_share(500.0) == pytest.approx(0.5)


def test_peak_is_what_a_machine_can_do() -> None:
    assert 1e8 < measure_peak("cpu", torch.float32) < 1e14
