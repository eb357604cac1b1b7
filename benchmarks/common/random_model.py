"""Exported versions with random weights of GPT-2's smallest size, for what depends on size only.

Comes in: an empty folder. Goes out: versions in it; they have no parity figures and can't be
published. Export runs in a process of its own, as people run it.
"""

import base64
import itertools
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from nanotriton.contract import ENGINE_MODEL, RANKS_FILE
from nanotriton.manifest import newest_version


@dataclass(frozen=True, slots=True)
class Sizes:
    """GPT-2's smallest, 124 million parameters."""

    num_layers: int = 12
    num_heads: int = 12
    width: int = 768
    context: int = 1024
    num_tokens: int = 50257


GPT2 = Sizes()
TEMPLATE = Path(__file__).parent.parent.parent / "model_repository"
WARMED_UP_MODELS = ("preprocessing", "completion_stream")
DEVIATION = 0.02  # GPT-2's own initialisation


@contextmanager
def chosen_version(repository: Path, *, is_random: bool) -> Iterator[Path]:
    """The newest version of a repository, or one of random weights that is gone afterwards."""
    if not is_random:
        yield newest_version(repository)
        return
    with tempfile.TemporaryDirectory(prefix="nanotriton-random-") as temporary:
        yield write_random_version(Path(temporary))


def write_random_version(folder: Path, precision: str = "auto", kv: str = "float32") -> Path:
    """About a minute of work and 700 MB of files; returns the version's folder."""
    checkpoint, version = folder / "checkpoint", folder / f"{precision}_{kv}"
    if not checkpoint.exists():
        write_checkpoint(checkpoint)
    export_version(checkpoint, version, precision, kv)
    return version


def write_random_repository(folder: Path, precision: str = "auto") -> Path:
    """The same as a repository that can be served, though nothing like it is published."""
    version = write_random_version(folder, precision)
    repository = folder / "repository"
    exported = ("*.onnx*", "*.plan", "*.json", "*.tiktoken", "warmup", "[2-9]*", "1?*")
    shutil.copytree(TEMPLATE, repository, ignore=shutil.ignore_patterns(*exported))
    for file in version.iterdir():
        file.rename(repository / ENGINE_MODEL / "1" / file.name)
    prompt = b"def f():"
    for model in WARMED_UP_MODELS:
        (repository / model / "warmup").mkdir()
        sized = struct.pack("<I", len(prompt)) + prompt  # as Triton's input_data_file has it
        (repository / model / "warmup" / "prompt").write_bytes(sized)
    return repository


def export_version(
    checkpoint: Path, version: Path, precision: str = "auto", kv: str = "float32"
) -> None:
    """Random weights gain nothing from calibration; a cache of int8 has no scales without it."""
    fitted = ["--rounding", "nearest"] if kv == "float32" else ["--calibration-tokens", "1024"]
    commands = [["graph", str(checkpoint), "--out", str(version), "--infill", "no"]]
    if precision != "fp32":
        quantized = ["quantized", str(version), "--precision", precision, "--kv", kv, *fitted]
        commands.append(quantized)
    for words in commands:
        subprocess.run([sys.executable, "-m", "export", *words], check=True, stdout=sys.stderr)


def random_checkpoint(folder: Path) -> Path:
    """The checkpoint in a folder that is kept between runs, written unless it is there."""
    if not folder.is_dir():
        part = folder.with_name(f"{folder.name}.part")  # one cut off isn't taken for a whole one
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        write_checkpoint(part)
        part.rename(folder)
    return folder


def write_checkpoint(folder: Path, sizes: Sizes = GPT2) -> None:
    """A new Hugging Face GPT-2 folder, and in it a ranks file of as many tokens."""
    folder.mkdir()
    config = {
        "model_type": "gpt2",
        "n_layer": sizes.num_layers,
        "n_head": sizes.num_heads,
        "n_embd": sizes.width,
        "n_positions": sizes.context,
        "vocab_size": sizes.num_tokens,
    }
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.standard_normal(shape, np.float32) * np.float32(DEVIATION)

    width = sizes.width
    weights = {
        "wte.weight": normal(sizes.num_tokens, width),
        "wpe.weight": normal(sizes.context, width),
    }
    norms = ["ln_f"]
    for layer in (f"h.{index}" for index in range(sizes.num_layers)):
        norms += [f"{layer}.ln_1", f"{layer}.ln_2"]
        for name, num_inputs, num_outputs in (
            ("attn.c_attn", width, 3 * width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width),
            ("mlp.c_proj", 4 * width, width),
        ):
            weights[f"{layer}.{name}.weight"] = normal(num_inputs, num_outputs)
            weights[f"{layer}.{name}.bias"] = np.zeros(num_outputs, np.float32)
    for name in norms:
        weights[f"{name}.weight"] = np.ones(width, np.float32)
        weights[f"{name}.bias"] = np.zeros(width, np.float32)
    save_file(weights, folder / "model.safetensors")
    tokens = (bytes(one) for size in (1, 2) for one in itertools.product(range(256), repeat=size))
    lines = (
        b"%s %d\n" % (base64.b64encode(token), rank)
        for rank, token in enumerate(
            itertools.islice(tokens, sizes.num_tokens - 1)
        )  # and end of text
    )
    (folder / RANKS_FILE).write_bytes(b"".join(lines))
