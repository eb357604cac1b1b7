"""The whole measurement of the peers: open them, run the rounds, close them.

Comes in: a checkpoint and which peers. Goes out: what each did, and why some could not.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.random_model import random_checkpoint
from benchmarks.peers.catalogue import Peer, PeerError, python_of
from benchmarks.peers.rounds import WORKLOADS, Track, Workload, run_rounds
from benchmarks.peers.worker import Limits, Worker


@dataclass(frozen=True, slots=True)
class Measured:
    """What the peers did in the rounds, and the reasons of those that could not be opened."""

    tracks: list[Track]
    errors: dict[str, str]


def measure_peers(
    peers: Sequence[Peer],
    checkpoint: Path | None,
    *,
    venvs: Path,
    work: Path | None,
    num_threads: int,
    num_rounds: int,
    max_s: float,
    progress: Callable[[str], None],
    workloads: Sequence[Workload] = WORKLOADS,
) -> Measured:
    """Measure these peers on a Hugging Face GPT-2 folder, or on random weights in GPT-2's size.

    `work` keeps what each peer made of the checkpoint for the next time; `max_s` counts from here.
    Raises PeerError when the checkpoint can't be measured, or no peer is left.
    """
    started_s = time.monotonic()
    errors: dict[str, str] = {}
    workers: list[Worker] = []
    with ExitStack() as stack:
        if work is None:
            work = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="nanotriton-peers-"))
            )
        checkpoint = checkpoint or random_checkpoint(work / "checkpoint")
        vocab_size, limits = _fit(checkpoint, workloads, num_threads)
        for peer in peers:
            try:
                python = python_of(peer.engine, venvs)
                workers.append(Worker(peer, python, checkpoint, work, limits))
            except PeerError as error:
                errors[peer.name] = str(error)
            else:
                stack.callback(workers[-1].close)
            progress(f"{peer.name}: {errors.get(peer.name, 'ready')}")
        if not workers:
            raise PeerError("; ".join(f"{name}: {error}" for name, error in errors.items()))
        tracks = run_rounds(
            workers,
            workloads,
            vocab_size,
            num_rounds=num_rounds,
            max_s=max_s - (time.monotonic() - started_s),
            progress=progress,
        )
    return Measured(tracks, errors)


def _fit(checkpoint: Path, workloads: Sequence[Workload], num_threads: int) -> tuple[int, Limits]:
    """The vocabulary's size and what peers are opened with; raises PeerError for a wrong folder."""
    try:
        config = json.loads((checkpoint / "config.json").read_text())
        vocab_size, context = config["vocab_size"], config["n_positions"]
    except (OSError, ValueError, KeyError) as error:
        raise PeerError(
            f"{checkpoint} is no Hugging Face GPT-2 folder ({type(error).__name__}: {error}): "
            "give one, or --random"
        ) from None
    max_tokens = max(load.prompt_tokens + load.new_tokens for load in workloads)
    if max_tokens > context:
        raise PeerError(
            f"{checkpoint} reads {context} tokens, the workloads take {max_tokens}: give a model "
            "of a longer context, or --random"
        )
    max_sequences = max(load.num_prompts for load in workloads)
    return vocab_size, Limits(num_threads, max_sequences, max_tokens)
