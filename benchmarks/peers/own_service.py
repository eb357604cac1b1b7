"""Our own server on the same terms: a checkpoint exported, served by Triton behind the gateway.

Comes in: a Hugging Face GPT-2 folder. Goes out: its model repository, and targets for both doors
while they are open. Export runs in a process of its own, as people run it.
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.own_servers import running_triton, start_gateway
from benchmarks.peers.catalogue import PeerError
from benchmarks.target import HttpTarget, Target, TritonTarget
from nanotriton.manifest import newest_version

GATEWAY, DIRECT = "ours", "ours-direct"
# As the engine without a server is measured; a cache of 8 bits is what OpenVINO has by default.
EXPORT = ("--precision", "auto", "--kv", "int8", "--calibration-tokens", "1024", "--tokens", "512")
# Speed is asked for here, and random weights are one near-tie.
ACCEPTED = ("relative_delta", "kl", "top1", "greedy", "perplexity_rise")


@dataclass(frozen=True, slots=True)
class OwnService:
    """Addresses of both doors, HOST:PORT."""

    gateway_url: str
    grpc_url: str

    def open_targets(self) -> list[Target]:
        """The gateway and Triton itself, to be opened in the event loop that asks."""
        return [
            HttpTarget(GATEWAY, self.gateway_url, settings={"ignore_eos": True}),
            TritonTarget(DIRECT, self.grpc_url, ignore_eos=True),
        ]


def prepare(checkpoint: Path, folder: Path, settings: Mapping[str, str]) -> Path:
    """The repository of a checkpoint, made unless it is there; the engine's settings are set.

    Raises PeerError when it can't be exported.
    """
    repository = folder / "repository"
    if not repository.is_dir():
        accepted = [word for name in ACCEPTED for word in ("--accept", name)]
        words = ["all", str(checkpoint), "--repository", str(repository)]
        command = [sys.executable, "-m", "export", *words, *EXPORT, *accepted]
        if status := subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            raise PeerError(f"the export of {checkpoint} ended with {status}")
    config = newest_version(repository).parent / "config.pbtxt"
    text = config.read_text()
    for key, value in settings.items():
        line = f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        text = re.sub(rf'^parameters {{ key: "{key}".*\n', "", text, flags=re.MULTILINE)
        text += f"{line}\n"
    config.write_text(text)
    return repository


@contextmanager
def running_service(repository: Path, folder: Path) -> Iterator[OwnService]:
    """Both for a while; what they log and keep lies in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with running_triton(repository, folder) as triton:
        gateway = start_gateway([triton.grpc_url], folder, "--open")
        try:
            yield OwnService(gateway.url, triton.grpc_url)
        finally:
            gateway.stop()
