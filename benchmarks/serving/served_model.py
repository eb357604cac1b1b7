"""The weights that servers are compared on, the same for ours and for peers.

Comes in: a Hugging Face GPT-2 folder, or the wish for random weights in GPT-2's size, or neither
for the demo. Goes out: where each finds what it serves. Export runs in a process of its own, as
people run it. Knows nothing of servers.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common.random_model import random_checkpoint
from benchmarks.serving.workload import CONTEXT, DEMO
from nanotriton.manifest import newest_version, versions_of

# As the engine without a server is measured; a cache of 8 bits is what OpenVINO has by default.
EXPORT = ("--precision", "auto", "--kv", "int8", "--calibration-tokens", "1024", "--tokens", "512")
# Speed is asked for here, and random weights are one near-tie.
ACCEPTED = ("relative_delta", "kl", "top1", "greedy", "perplexity_rise")


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model as everybody takes it."""

    repository: Path  # ours
    checkpoint: Path  # Hugging Face GPT-2 folder, of peers
    tokenizer: Path  # folder with tokenizer.json
    work: Path  # keeps what is made of it, and logs


def demo_model(repository: Path, work: Path) -> ServedModel:
    """The demo's checkpoint, and whatever was exported of it into this repository."""
    return ServedModel(repository, DEMO, DEMO, work)


def random_model(work: Path) -> ServedModel:
    """Random weights, made unless they are there.

    They repeat themselves, so speculation is off: it would flatter.
    """
    model = exported_model(random_checkpoint(work / "checkpoint"), work)
    config = newest_version(model.repository).parent / "config.pbtxt"
    told = 'parameters { key: "speculation" value { string_value: "off" } }'
    config.write_text(
        re.sub('^parameters { key: "speculation".*$', told, config.read_text(), flags=re.MULTILINE)
    )
    return model


def exported_model(checkpoint: Path, work: Path) -> ServedModel:
    """Any checkpoint, exported unless it was; raises ValueError when it can't be."""
    _check_context(checkpoint)
    repository = work / "ours" / "repository"
    if not versions_of(repository):
        accepted = [word for name in ACCEPTED for word in ("--accept", name)]
        words = ["all", str(checkpoint), "--repository", str(repository)]
        command = [sys.executable, "-m", "export", *words, *EXPORT, *accepted]
        if status := subprocess.run(command, check=False, stdout=sys.stderr).returncode:
            raise ValueError(f"the export of {checkpoint} ended with {status}")
    return ServedModel(repository, checkpoint, newest_version(repository), work)


def _check_context(checkpoint: Path) -> None:
    """Raises ValueError when it is no checkpoint, or reads too little."""
    try:
        context = json.loads((checkpoint / "config.json").read_text())["n_positions"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{checkpoint} is no Hugging Face GPT-2 folder ({type(error).__name__}: {error}): "
            "give one, or --random"
        ) from None
    if context < CONTEXT:
        raise ValueError(
            f"{checkpoint} reads {context} tokens, questions and answers take {CONTEXT}: give a "
            "model of a longer context, or --random"
        )
