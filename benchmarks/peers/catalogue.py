"""The peers by name, ours among them, as engines and as servers, and where each is installed.

Knows nothing of what a peer does: that is its worker's file.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

HERE = Path(__file__).parent
DEFAULT_VENVS = HERE.parent / ".venvs"
OWN = "ours"
REFERENCE = "ours-auto"

# llama.cpp is built from source, for this very processor, without what reads images.
BUILD_SETTINGS = MappingProxyType({"CMAKE_ARGS": "-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF"})


class PeerError(Exception):
    """A peer that can't be measured; the message says why, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One engine at one precision; `has_cache` is false where each token costs the whole text.

    Workloads of more than `max_prompts` are not asked of it: slow ones would take most of a run.
    """

    engine: str  # names its worker's module, its requirements and its environment
    precision: str
    max_prompts: int = 32
    has_cache: bool = True

    @property
    def name(self) -> str:
        """What a table and `--only` call it."""
        return f"{self.engine}-{self.precision}"

    @property
    def module(self) -> str:
        """The worker, as `python -m` takes it."""
        return f"{__package__}.{self.engine.replace('-', '_')}"


PEERS = (
    Peer(OWN, "auto"),
    Peer(OWN, "int8"),
    Peer(OWN, "int4"),
    Peer("openvino-genai", "int8"),
    Peer("openvino-genai", "int4"),
    Peer("llama-cpp", "q8_0"),
    Peer("llama-cpp", "q4_0"),
    Peer("ctranslate2", "int8"),
    Peer("transformers", "fp32", max_prompts=8),
    Peer("transformers", "int8"),
    Peer("tutorial", "fp32", max_prompts=8, has_cache=False),
)


@dataclass(frozen=True, slots=True)
class Service:
    """A peer as a server, which works on at most `max_sequences` at once and lets others wait."""

    name: str
    engine: str
    precision: str
    max_sequences: int = 32
    worker: str = ""  # its module, where that is not the engine's own

    @property
    def module(self) -> str:
        """The worker, as `python -m` takes it."""
        return f"{__package__}.{self.worker or self.engine.replace('-', '_')}"


SERVICES = (
    Service("tutorial-fp32", "tutorial", "fp32", max_sequences=1),
    Service("tutorial-fp32-batched", "tutorial", "fp32", max_sequences=8),
    Service("transformers-fp32", "transformers", "fp32", max_sequences=1),
    Service("transformers-fp32-serve", "transformers", "fp32", worker="transformers_serve"),
    Service("llama-cpp-q8_0", "llama-cpp", "q8_0"),
    Service("llama-cpp-q4_0", "llama-cpp", "q4_0"),
    Service("openvino-genai-int8", "openvino-genai", "int8"),
    Service("openvino-genai-int4", "openvino-genai", "int4"),
    Service("ctranslate2-int8", "ctranslate2", "int8"),
    Service("triton-python-fp32", "triton-python", "fp32", max_sequences=1),
)
Listed = TypeVar("Listed", Peer, Service)


def choose(names: Sequence[str], peers: Sequence[Listed]) -> list[Listed]:
    """The peers of these names, an engine's name standing for all of its own; all for none.

    Raises PeerError for a name that none has.
    """
    for name in names:
        if not any(name in (one.name, one.engine) for one in peers):
            known = ", ".join(one.name for one in peers)
            raise PeerError(f"there is no peer {name!r}: there are {known}")
    return [one for one in peers if not names or {one.name, one.engine} & set(names)]


def python_of(engine: str, venvs: Path) -> Path:
    """The interpreter that runs a peer; raises PeerError when it was not installed."""
    if engine == OWN:
        return Path(sys.executable)
    python = venvs.absolute() / engine / "bin" / "python"
    if not python.is_file():
        raise PeerError(f"not installed in {venvs}: python -m benchmarks peers --install {engine}")
    return python


def choose_engines(names: Sequence[str]) -> list[str]:
    """What is installed for these names, each once; raises PeerError for an unknown one."""
    every = {one.engine for one in (*PEERS, *SERVICES)} - {OWN}
    if unknown := sorted(set(names) - every):
        raise PeerError(f"there is no engine {unknown[0]!r}: there are {', '.join(sorted(every))}")
    return sorted(set(names) or every)


def install(engines: Sequence[str], venvs: Path, environment: Mapping[str, str]) -> list[str]:
    """Make the environments of these engines, or mend them; a line for each that failed.

    What pip says goes to stderr.
    """
    failures = []
    for engine in engines:
        folder = venvs / engine
        requirements = HERE / f"requirements-{engine}.txt"
        python = folder / "bin" / "python"
        commands = [[str(python), "-m", "pip", "install", "-r", str(requirements)]]
        if not python.is_file():
            commands.insert(0, [sys.executable, "-m", "venv", str(folder)])
        for command in commands:
            done = subprocess.run(
                command, check=False, stdout=sys.stderr, env={**environment, **BUILD_SETTINGS}
            )
            if done.returncode:
                failures.append(f"{engine}: {command[2]} ended with {done.returncode}")
                shutil.rmtree(folder)  # half an environment would look like a whole one
                break
    return failures
