"""Hugging Face transformers with its KV cache: PyTorch in float32, bfloat16 or dynamic INT8.

The loop is written out (one forward pass a token, argmax), which spares the peer what `generate`
costs beside the model.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.pytorch_utils import Conv1D

from benchmarks.peers.batches import Steps, batched
from benchmarks.peers.serving import Options, serve
from benchmarks.peers.weights import load_weights


class Transformers:
    """GPT2LMHeadModel and one growing cache."""

    def __init__(self, options: Options) -> None:
        torch.set_num_threads(options.num_threads)
        self._model = _lowered(load_model(options.checkpoint), options.precision)

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], num_new: int) -> Steps:
        """Prompts together, shorter ones padded on the left and masked there."""
        width = max(map(len, prompts))
        padding = [[0] * (width - len(prompt)) for prompt in prompts]
        newest = torch.tensor([[*pad, *ids] for pad, ids in zip(padding, prompts, strict=True)])
        mask = torch.tensor([pad + [1] * (width - len(pad)) for pad in padding])  # (B, T)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        is_padded, cache = any(padding), None
        for _ in range(num_new):
            # Only the last position's logits are wanted of a prompt.
            output = self._model(
                newest,
                attention_mask=mask if is_padded else None,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            newest = output.logits[:, -1:].argmax(-1)  # (B, 1)
            mask = torch.cat((mask, torch.ones_like(newest)), dim=1)
            positions = positions[:, -1:] + 1
            yield list(enumerate(newest[:, 0].tolist()))


def load_model(checkpoint: Path) -> GPT2LMHeadModel:
    """The checkpoint as transformers has it, ready to answer."""
    model = GPT2LMHeadModel(GPT2Config(**json.loads((checkpoint / "config.json").read_text())))
    weights = load_weights(checkpoint)
    tensors = {
        name: torch.from_numpy(one)
        for name, one in weights.tensors.items()
        if "lm_head" not in name
    }
    model.transformer.load_state_dict(tensors)
    model.lm_head.weight.data = torch.from_numpy(weights.head)
    return model.eval()


def _lowered(model: torch.nn.Module, precision: str) -> torch.nn.Module:
    if precision == "fp32":
        return model
    if precision == "bf16":
        return model.to(torch.bfloat16)
    for parent in list(model.modules()):  # quantization knows Linear only
        for name, child in parent.named_children():
            if isinstance(child, Conv1D):
                setattr(parent, name, _as_linear(child))
    quantize: Callable[..., torch.nn.Module] = torch.ao.quantization.quantize_dynamic
    return quantize(model, {torch.nn.Linear}, torch.qint8)


def _as_linear(layer: Conv1D) -> torch.nn.Linear:
    num_inputs, num_outputs = layer.weight.shape
    linear = torch.nn.Linear(num_inputs, num_outputs)
    linear.weight.data = layer.weight.data.T.contiguous()
    linear.bias.data = layer.bias.data
    return linear


if __name__ == "__main__":
    sys.exit(serve(batched(Transformers), ("torch", "transformers")))
