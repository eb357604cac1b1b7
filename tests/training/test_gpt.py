"""The model alone: causal, tied, and nanoGPT's by name."""

import torch

from training.checkpoint import model_from
from training.gpt import GPT, GPTConfig

GPT_ARGS = {"block_size": 8, "vocab_size": 300, "n_layer": 1, "n_head": 2, "n_embd": 16}


def test_future_tokens_do_not_change_the_past() -> None:
    model = GPT(GPTConfig(**GPT_ARGS)).eval()
    ids = torch.arange(8)[None]
    changed = ids.clone()
    changed[0, 5:] = 299

    assert torch.allclose(model(ids)[0, :5], model(changed)[0, :5], atol=1e-6)


def test_names_are_nanogpts() -> None:
    names = GPT(GPTConfig(**GPT_ARGS)).state_dict().keys()
    parts = ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")

    assert names == {
        "transformer.wte.weight",
        "transformer.wpe.weight",
        *(f"transformer.h.0.{part}.{kind}" for part in parts for kind in ("weight", "bias")),
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
        "lm_head.weight",
    }


def test_residual_projections_start_smaller() -> None:
    model = GPT(GPTConfig(**(GPT_ARGS | {"n_layer": 8, "n_embd": 64})))
    block = model.state_dict()

    assert abs(block["transformer.h.0.attn.c_attn.weight"].std().item() - 0.02) < 0.001
    assert abs(block["transformer.h.0.attn.c_proj.weight"].std().item() - 0.005) < 0.0005


def test_compiled_weights_lose_their_prefix() -> None:
    model = GPT(GPTConfig(**GPT_ARGS))
    weights = {f"_orig_mod.{name}": weight for name, weight in model.state_dict().items()}

    restored = model_from({"model": weights, "model_args": GPT_ARGS})

    assert restored.state_dict().keys() == model.state_dict().keys()
