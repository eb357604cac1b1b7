"""``ckpt.pt`` and the prepared data in; a Hugging Face GPT-2 folder with FP16 weights out.

The folder holds config.json, model.safetensors, tokenizer.tiktoken, its sidecar tokenizer.json, and
the model card. Knows nothing of how the weights are served.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from training.bpe import END_OF_TEXT, TokenizerSpec, load_tokenizer, save_tokenizer
from training.card import Facts, write_card
from training.checkpoint import load_checkpoint, model_from
from training.errors import CheckpointError, TokenizerError
from training.gpt import GPT, GPTConfig
from training.pretrained import CONV1D
from training.sample import SampleConfig, sample_text

FILES = ("config.json", "model.safetensors", "tokenizer.tiktoken", "tokenizer.json", "README.md")


def release(
    checkpoint: Path, data_dir: Path, out_dir: Path, prompts: Sequence[str], sampling: SampleConfig
) -> list[Path]:
    """Write the folder and return its files; the card's samples come from the FP16 weights.

    Raises CheckpointError when the weights do not map onto GPT-2 or overflow FP16, TokenizerError
    when the tokenizer has more ids than the model.
    """
    state = load_checkpoint(checkpoint)
    model = model_from(state)
    spec = load_tokenizer(data_dir)
    _check(model.config, spec)
    tensors = half_weights(model)
    out_dir.mkdir(parents=True, exist_ok=True)
    # save_file() would leave it readable by its owner alone, and servers run as somebody else
    (out_dir / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    config = huggingface_config(model.config, spec.special_tokens[END_OF_TEXT])
    # no setting of transformers: it tells whoever serves the model whether it fills in the middle
    config["fim_rate"] = state.get("config", {}).get("fim_rate", 0.0)
    (out_dir / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_tokenizer(spec, out_dir)
    released = model.half().float()
    samples = [sample_text(released, spec, prompt, sampling) for prompt in prompts]
    write_card(out_dir / "README.md", Facts.gather(state, model, data_dir, samples, sampling))
    return [out_dir / name for name in FILES]


def _check(config: GPTConfig, spec: TokenizerSpec) -> None:
    if not config.bias:
        raise CheckpointError("bias is false, GPT-2 has biases everywhere: train with bias=true")
    if spec.vocab_size > config.vocab_size:
        raise TokenizerError(
            f"the tokenizer has {spec.vocab_size} ids, the model {config.vocab_size}: "
            "take the tokenizer it was trained with"
        )


def half_weights(model: GPT) -> dict[str, Tensor]:
    """FP16 tensors under Hugging Face's names; the output layer is tied and not stored."""
    tensors = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        half = (weight.t() if name.endswith(CONV1D) else weight).to(torch.float16).contiguous()
        if not half.isfinite().all():
            raise CheckpointError(
                f"{name} reaches {weight.abs().max():.3g}, FP16 holds at most 65504: train it anew"
            )
        tensors[name] = half
    return tensors


def huggingface_config(config: GPTConfig, end_of_text: int) -> dict[str, Any]:
    """What transformers needs to build the same model."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_embd": config.n_embd,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": None,
        "activation_function": config.activation,
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "torch_dtype": "float16",
    }
