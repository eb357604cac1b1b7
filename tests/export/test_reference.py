import math

import numpy as np
import pytest
import torch
from transformers import GPT2LMHeadModel

from export.checkpoint import load_checkpoint
from export.reference import Reference, erf
from training.gpt import GPT, GPTConfig

NUM_TOKENS = 283


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
def test_reference_computes_what_nanogpt_does(nanogpt, ids, bias):
    path = nanogpt(bias=bias)
    saved = torch.load(path, weights_only=True)
    model = GPT(GPTConfig(**saved["model_args"])).eval()
    model.load_state_dict(saved["model"])
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)[None])[0, :, :NUM_TOKENS].numpy()
    reference = Reference(load_checkpoint(path))
    np.testing.assert_allclose(reference.logits(reference.hidden(ids)), expected, atol=1e-4)


@pytest.mark.parametrize("function", ["gelu_new", "gelu"])
def test_reference_computes_what_transformers_does(huggingface, ids, function):
    folder = huggingface(activation_function=function)
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)[None]).logits[0, :, :NUM_TOKENS].numpy()
    reference = Reference(load_checkpoint(folder))
    np.testing.assert_allclose(reference.logits(reference.hidden(ids)), expected, atol=1e-4)


def test_erf_is_right_to_float32():
    x = np.linspace(-5, 5, 2001, dtype=np.float32)
    np.testing.assert_allclose(erf(x), [math.erf(value) for value in x], atol=1e-6)
