"""nanoGPT's `generate`, as the usual tutorial serves it: PyTorch, float32, no KV cache.

Each token runs the whole text through the model again. The model is nanoGPT's (LayerNorm with bias,
tied head), written with torch's own functions.
"""

import sys
from collections.abc import Sequence

import torch
from torch.nn import functional

from benchmarks.peers.batches import Steps, batched
from benchmarks.peers.serving import Options, serve
from benchmarks.peers.weights import load_weights


class Tutorial:
    """GPT-2 without a cache."""

    def __init__(self, options: Options) -> None:
        torch.set_num_threads(options.num_threads)
        weights = load_weights(options.checkpoint)
        self._tensors = {name: torch.from_numpy(one) for name, one in weights.tensors.items()}
        self._linears = {
            name: one.T.contiguous()  # (outputs, inputs), as torch has them
            for name, one in self._tensors.items()
            if ".c_" in name and name.endswith("weight")
        }
        self._head = torch.from_numpy(weights.head)
        self._num_layers, self._num_heads = weights.num_layers, weights.num_heads
        self._gelu = "tanh" if weights.is_tanh else "none"

    @torch.inference_mode()
    def generate(self, prompts: Sequence[Sequence[int]], num_new: int) -> Steps:
        """Prompts padded on the right, where no token before looks; every step begins anew."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])  # (B,)
        rows = torch.arange(len(prompts))
        text = torch.zeros(len(prompts), int(lengths.max()) + num_new, dtype=torch.long)
        for row, prompt in zip(text, prompts, strict=True):
            row[: len(prompt)] = torch.tensor(prompt)
        for _ in range(num_new):
            newest = self._next(text[:, : lengths.max()], lengths)
            text[rows, lengths] = newest
            lengths += 1
            yield list(enumerate(newest.tolist()))

    def _next(self, text: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T) of so many tokens each to the likeliest next token of each row, (B,)."""
        tensors = self._tensors
        hidden = tensors["wte.weight"][text] + tensors["wpe.weight"][: text.shape[1]]
        for layer in (f"h.{index}" for index in range(self._num_layers)):
            hidden = hidden + self._attend(layer, self._norm(f"{layer}.ln_1", hidden))
            inner = self._linear(f"{layer}.mlp.c_fc", self._norm(f"{layer}.ln_2", hidden))
            inner = functional.gelu(inner, approximate=self._gelu)
            hidden = hidden + self._linear(f"{layer}.mlp.c_proj", inner)
        last = hidden[torch.arange(len(text)), lengths - 1]  # (B, width)
        return (self._norm("ln_f", last) @ self._head.T).argmax(-1)

    def _attend(self, layer: str, hidden: torch.Tensor) -> torch.Tensor:
        num_rows, num_tokens, width = hidden.shape
        heads = (num_rows, num_tokens, 3, self._num_heads, width // self._num_heads)
        packed = self._linear(f"{layer}.attn.c_attn", hidden).view(heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed = mixed.transpose(1, 2).reshape(hidden.shape)
        return self._linear(f"{layer}.attn.c_proj", mixed)

    def _linear(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = self._linears[f"{name}.weight"], self._tensors.get(f"{name}.bias")
        return functional.linear(hidden, weight, bias)

    def _norm(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors.get(f"{name}.bias")
        return functional.layer_norm(hidden, weight.shape, weight, bias)


if __name__ == "__main__":
    sys.exit(serve(batched(Tutorial), ("torch",)))
