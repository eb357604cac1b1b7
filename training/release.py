"""``ckpt.pt`` and the prepared data in; a Hugging Face GPT-2 folder with FP16 weights out.

The folder holds config.json, model.safetensors, tokenizer.tiktoken, its sidecar tokenizer.json, and
the model card. Knows nothing of how the weights are served.
"""

import json
import shutil
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
from training.samples import Samples
from training.subject import file_sha256
from training.train import CURVE

FILES = ("config.json", "model.safetensors", "tokenizer.tiktoken", "tokenizer.json", "README.md")


def release(
    checkpoint: Path,
    data_dir: Path,
    out_dir: Path,
    samples: Samples,
    evaluation: Path | None = None,
) -> list[Path]:
    """Write the folder and return its files; the card's samples come from the FP16 weights.

    The run's loss curve goes along where it stands beside the checkpoint. ``evaluation`` is what
    ``evaluate --json`` printed of this checkpoint. Raises CheckpointError when the weights do not
    map onto GPT-2 or overflow FP16 or the evaluation is of others, TokenizerError when the
    tokenizer has more ids than the model.
    """
    state = load_checkpoint(checkpoint)
    model = model_from(state)
    spec = load_tokenizer(data_dir)
    _check(model.config, spec)
    report = _read_evaluation(evaluation, checkpoint) if evaluation else None
    tensors = half_weights(model)
    out_dir.mkdir(parents=True, exist_ok=True)
    # save_file() would leave it readable by its owner alone, and servers run as somebody else
    (out_dir / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    config = huggingface_config(model.config, spec.special_tokens[END_OF_TEXT])
    # no settings of transformers: they tell whoever serves the model how it fills in the middle
    for name in ("fim_rate", "fim_spm_rate"):
        config[name] = state.get("config", {}).get(name, 0.0)
    (out_dir / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_tokenizer(spec, out_dir)
    released = model.half().float()
    curve = checkpoint.with_name(CURVE)
    if curve.is_file():
        shutil.copyfile(curve, out_dir / CURVE)
    facts = Facts.gather(state, model, data_dir, report, has_curve=curve.is_file())
    write_card(out_dir / "README.md", facts, samples.draw(released, spec, facts.trained_with))
    return [out_dir / name for name in (*FILES, CURVE) if (out_dir / name).is_file()]


def _read_evaluation(path: Path, checkpoint: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        evaluated = report["settings"]["checkpoint_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"cannot read {path} ({error!r}): write it with `python -m training evaluate --json`"
        ) from None
    if evaluated != (own := file_sha256(checkpoint)):
        raise CheckpointError(
            f"{path} is of a checkpoint with SHA-256 {evaluated[:16]}, {checkpoint} has "
            f"{own[:16]}: evaluate this one"
        )
    return report


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
