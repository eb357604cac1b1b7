"""Token ids in, logits and loss out: GPT-2's architecture with nanoGPT's names and shapes.

The state dict and GPTConfig match https://github.com/karpathy/nanoGPT/blob/master/model.py name for
name, so checkpoints go both ways (but for ``activation``, which nanoGPT has not: it computes "gelu"
alone). Knows nothing of data, of optimisation or of text.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.errors import ConfigError

INIT_STD = 0.02  # GPT-2's
GELUS = {"gelu": "none", "gelu_new": "tanh"}  # Hugging Face's names: by erf, and OpenAI's by tanh


@dataclass(frozen=True, slots=True)
class GPTConfig:
    """The fields of nanoGPT's GPTConfig: M = block_size, V = vocab_size, L, H, H * D = n_embd."""

    block_size: int = 512
    vocab_size: int = 4096
    n_layer: int = 4
    n_head: int = 4
    n_embd: int = 256
    dropout: float = 0.0
    bias: bool = True
    activation: str = "gelu"

    def __post_init__(self) -> None:
        for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.n_embd % self.n_head:
            raise ConfigError(
                f"n_embd is {self.n_embd}, it must be a multiple of n_head {self.n_head}"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout is {self.dropout}, it must be at least 0 and below 1")
        if self.activation not in GELUS:
            raise ConfigError(f"activation is {self.activation!r}, known are {', '.join(GELUS)}")


class CausalSelfAttention(nn.Module):
    """(B, T, H * D) -> (B, T, H * D); position t sees positions 0..t."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)
        self.n_head = config.n_head
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        batch, num_tokens, width = x.shape
        query, key, value = (
            part.view(batch, num_tokens, self.n_head, width // self.n_head).transpose(1, 2)
            for part in self.c_attn(x).split(width, dim=2)
        )  # each (B, H, T, D)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True)
        y = y.transpose(1, 2).reshape(batch, num_tokens, width)  # (B, T, H * D)
        return self.resid_dropout(self.c_proj(y))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """(B, T, H * D) -> (B, T, H * D) through four times the width."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU(approximate=GELUS[config.activation])
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """A decoder-only transformer whose output layer shares the token embedding."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(config.vocab_size, config.n_embd),
                "wpe": nn.Embedding(config.block_size, config.n_embd),
                "drop": nn.Dropout(config.dropout),
                "h": nn.ModuleList(Block(config) for _ in range(config.n_layer)),
                "ln_f": nn.LayerNorm(config.n_embd, bias=config.bias),
            }
        )
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.transformer.wte.weight = self.lm_head.weight  # type: ignore[union-attr]
        self._init_weights()

    def _init_weights(self) -> None:
        residual_std = INIT_STD / math.sqrt(2 * self.config.n_layer)  # GPT-2 paper, section 2.3
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=residual_std)
            elif parameter.dim() == 2:
                nn.init.normal_(parameter, std=INIT_STD)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    @property
    def num_parameters(self) -> int:
        """Parameters without the position embedding, as nanoGPT counts them."""
        positions = self.config.block_size * self.config.n_embd
        return sum(parameter.numel() for parameter in self.parameters()) - positions

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) for ids (B, T) int64, T at most block_size."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.transformer["drop"](
            self.transformer["wte"](ids) + self.transformer["wpe"](positions)
        )  # (B, T, H * D)
        for block in cast(nn.ModuleList, self.transformer["h"]):
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))  # type: ignore[no-any-return]

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats a token; ids and targets (B, T) int64."""
        logits = self(ids).float()  # (B, T, V)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))
