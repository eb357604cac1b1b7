"""A step's number and learning rate in; better weights and the step's loss out.

Every process of a run has one: it takes its share of the step's forward passes, and DDP averages
the gradients. Batches and dropout follow from (seed, step, pass) alone, so the number of processes
and a restart change nothing. Knows nothing of checkpoints, logs or when to stop.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.batches import BlockStream
from training.config import TrainConfig
from training.gpt import GPT
from training.optimizer import make_optimizer
from training.processes import Place
from training.starting import load_streams, make_model, pick_dtype

DROPOUT = 2  # its random stream; batches.py has 0 and 1


@dataclass(frozen=True, slots=True)
class Step:
    """What one step measured: the mean loss, and the gradient's length before it was clipped."""

    loss: float
    grad_norm: float


class LossOf(nn.Module):
    """The model's loss as a module's forward, the door that DDP and torch.compile know."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        return self.model.loss(ids, targets)


class Learner:
    """The model, its optimizer and its data; ``config`` has the sizes of the model."""

    def __init__(self, config: TrainConfig, data_dir: Path, place: Place) -> None:
        self.config = config
        self.place = place
        self.dtype = pick_dtype(config.dtype, place.device)
        self.streams = load_streams(config, data_dir)
        self.model = make_model(config, data_dir).to(place.device)
        self.optimizer = make_optimizer(self.model, config)
        self.loss_of: nn.Module = LossOf(self.model)
        if config.compile:
            self.loss_of = torch.compile(self.loss_of)  # type: ignore[assignment]
        many = place.size > 1
        self.replica = nn.parallel.DistributedDataParallel(self.loss_of) if many else None

    def take_step(self, step: int, rate: float) -> Step:
        """One optimizer step over ``accumulation`` passes of all processes together."""
        config, place = self.config, self.place
        self.optimizer.set_rate(rate)
        losses = [0.0] * config.accumulation
        mine = range(place.rank, config.accumulation, place.size)
        for number in mine:
            index = step * config.accumulation + number
            with self._sharing(is_last=number == mine[-1]):
                torch.manual_seed(_dropout_seed(config.seed, index))
                loss = self._loss(self.replica or self.loss_of, self.streams.train, index)
                (loss / len(mine)).backward()  # type: ignore[no-untyped-call]
            losses[number] = loss.item()
        longest = config.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), longest)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Step(sum(place.sum(losses)) / len(losses), norm.item())

    @torch.no_grad()
    def measure_val_loss(self) -> float:
        """Mean loss in nats a token, on always the same held-out blocks."""
        losses = [0.0] * self.config.eval_batches
        self.model.eval()
        for number in range(self.place.rank, len(losses), self.place.size):
            losses[number] = self._loss(self.loss_of, self.streams.val, number).item()
        self.model.train()
        return sum(self.place.sum(losses)) / len(losses)

    def _loss(self, loss_of: nn.Module, stream: BlockStream, index: int) -> Tensor:
        batch_size = self.config.batch_size
        rows = torch.from_numpy(stream.rows(index * batch_size, batch_size)).to(self.place.device)
        with self._autocast():
            loss: Tensor = loss_of(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        return loss

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(torch.device(self.place.device).type, dtype=self.dtype)

    def _sharing(self, is_last: bool) -> AbstractContextManager[object]:
        """Processes exchange gradients once a step, in the backward pass of their last batch."""
        if self.replica is None or is_last:
            return nullcontext()
        return self.replica.no_sync()


def _dropout_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence((seed, DROPOUT, index)).generate_state(1)[0])
