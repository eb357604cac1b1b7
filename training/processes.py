"""torchrun's environment in; this process's place among the processes of the run out.

One process alone is a run of size 1 and talks to nobody. The device is CUDA where there is one
(nccl), else the CPU (gloo). Knows nothing of models and data.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import distributed


@dataclass(frozen=True, slots=True)
class Place:
    """Process ``rank`` of ``size``; the first one alone writes files."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element by element over all processes; float64, so that x + 0 + 0 is exactly x."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.size > 1:
            distributed.barrier()


def only_place() -> Place:
    """The place of a process that runs alone."""
    return Place(device="cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def joined(environment: Mapping[str, str]) -> Iterator[Place]:
    """Join the other processes that torchrun started, if it did, and leave them at the end."""
    if "LOCAL_RANK" not in environment:
        yield only_place()
        return
    on_gpu = torch.cuda.is_available()
    device = f"cuda:{environment['LOCAL_RANK']}" if on_gpu else "cpu"
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Place(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
