"""Peers as servers: each started in its own environment, asked by one protocol, stopped.

Comes in: a service of the catalogue, a checkpoint with its tokenizer. Goes out: a running server
and a Target for it. Knows nothing of workloads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.common.target import GenerateTarget, HttpTarget, Target
from benchmarks.peers.catalogue import PeerError, Service, python_of
from benchmarks.peers.worker import OPENING_S, Limits, Process, command

OPENAI, GENERATE, HUGGING_FACE = "openai", "generate", "hugging face"
# What else each way of speaking is told so that nobody ends a text early.
ON_AND_ON: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        OPENAI: {"ignore_eos": True},
        GENERATE: {"ignore_eos": True},
        HUGGING_FACE: {},  # refuses the word; its model has no end of text
    }
)


@dataclass(frozen=True, slots=True)
class Premises:
    """What every server is started with; `max_tokens` is the longest sequence, prompt and all."""

    checkpoint: Path  # Hugging Face GPT-2 folder
    tokenizer: Path  # folder with tokenizer.json
    venvs: Path
    work: Path  # keeps what each made of the checkpoint, and its log
    num_threads: int
    max_tokens: int


class RunningServer:
    """A server that answers; `pid` is the root of its processes."""

    def __init__(self, service: Service, premises: Premises) -> None:
        """Start it; raises PeerError."""
        self.name = service.name
        folder = premises.work / service.engine
        words = command(
            service.module,
            python_of(service.engine, premises.venvs),
            checkpoint=premises.checkpoint,
            folder=folder,
            precision=service.precision,
            limits=Limits(premises.num_threads, service.max_sequences, premises.max_tokens),
        )
        words += ["--tokenizer", str(premises.tokenizer.resolve())]
        self._process = Process(words, folder / f"{service.name}.log")
        try:
            ready = self._process.read(OPENING_S)
        except PeerError:
            self.stop()
            raise
        self.url: str = ready["url"]  # HOST:PORT
        self.versions: dict[str, str] = ready["versions"]
        self.protocol: str = ready.get("protocol", OPENAI)

    @property
    def pid(self) -> int:
        """Of the process that was started; a server of somebody else's is its child."""
        return self._process.pid

    def open_target(self, *, ignore_eos: bool = False) -> Target:
        """A way to ask it, to be opened in the event loop that asks."""
        settings = ON_AND_ON[self.protocol] if ignore_eos else {}
        kind = GenerateTarget if self.protocol == GENERATE else HttpTarget
        return kind(self.name, self.url, settings=settings)

    def stop(self) -> None:
        """End it and its children."""
        self._process.close()
