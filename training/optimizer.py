"""A model and its settings in; the optimizer of a run out.

Which parameter goes to which algorithm, and with which decay, is decided here alone. Knows nothing
of gradients' making, of learning-rate schedules or of files.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.config import TrainConfig
from training.gpt import GPT


class Optimizers:
    """Several optimizers that share out a model's parameters and act as one."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = tuple(parts)

    def set_rate(self, rate: float) -> None:
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """One part's state as it is, so that nanoGPT's checkpoints and ours stay alike."""
        if len(self.parts) == 1:
            return self.parts[0].state_dict()
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError when the state is of other algorithms or sizes."""
        states = state.get("parts", [state])
        if len(states) != len(self.parts):
            raise ValueError(f"state of {len(states)} optimizers, {len(self.parts)} are in use")
        for part, its in zip(self.parts, states, strict=True):
            part.load_state_dict(its)


def make_optimizer(model: GPT, config: TrainConfig) -> Optimizers:
    """AdamW on all, or Muon on the blocks' matrices and AdamW on the rest.

    Matrices and embeddings decay, biases and layer norms do not, as in nanoGPT. Muon
    (https://kellerjordan.github.io/posts/muon/) steps along the orthogonalised momentum; scaled to
    AdamW's update length (arXiv:2502.16982), it takes AdamW's learning rate and decay.
    """
    matrices = [p for p in model.transformer["h"].parameters() if p.dim() == 2]
    if config.optimizer == "adamw":
        return Optimizers([_adamw(list(model.parameters()), config)])
    ids = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ids]
    muon = torch.optim.Muon(
        matrices,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return Optimizers([muon, _adamw(rest, config)])


def _adamw(parameters: Sequence[Tensor], config: TrainConfig) -> torch.optim.AdamW:
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=betas, fused=True)
