"""Exported versions with random weights of GPT-2's smallest size, for what depends on size only.

Comes in: an empty folder. Goes out: versions in it; they have no parity figures and can't be
published. Export runs in a process of its own, as people run it.
"""

import base64
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from nanotriton.contract import RANKS_FILE

NUM_LAYERS, NUM_HEADS, WIDTH, CONTEXT, NUM_TOKENS = 12, 12, 768, 1024, 50257
DEVIATION = 0.02  # GPT-2's own initialisation


def write_random_version(folder: Path, precision: str = "auto", kv: str = "float32") -> Path:
    """About a minute of work and 700 MB of files; returns the version's folder."""
    checkpoint, version = folder / "checkpoint", folder / f"{precision}_{kv}"
    if not checkpoint.exists():
        checkpoint.mkdir()
        _write_checkpoint(checkpoint)
    for words in (
        ["graph", str(checkpoint), "--out", str(version), "--infill", "no"],
        ["quantized", str(version), "--precision", precision, "--kv", kv],
    ):
        subprocess.run([sys.executable, "-m", "export", *words], check=True, stdout=sys.stderr)
    return version


def _write_checkpoint(folder: Path) -> None:
    """A Hugging Face GPT-2 folder and a ranks file of as many tokens."""
    config = {
        "model_type": "gpt2",
        "n_layer": NUM_LAYERS,
        "n_head": NUM_HEADS,
        "n_embd": WIDTH,
        "n_positions": CONTEXT,
        "vocab_size": NUM_TOKENS,
    }
    (folder / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.standard_normal(shape, np.float32) * np.float32(DEVIATION)

    weights = {"wte.weight": normal(NUM_TOKENS, WIDTH), "wpe.weight": normal(CONTEXT, WIDTH)}
    norms = ["ln_f"]
    for layer in (f"h.{index}" for index in range(NUM_LAYERS)):
        norms += [f"{layer}.ln_1", f"{layer}.ln_2"]
        for name, num_inputs, num_outputs in (
            ("attn.c_attn", WIDTH, 3 * WIDTH),
            ("attn.c_proj", WIDTH, WIDTH),
            ("mlp.c_fc", WIDTH, 4 * WIDTH),
            ("mlp.c_proj", 4 * WIDTH, WIDTH),
        ):
            weights[f"{layer}.{name}.weight"] = normal(num_inputs, num_outputs)
            weights[f"{layer}.{name}.bias"] = np.zeros(num_outputs, np.float32)
    for name in norms:
        weights[f"{name}.weight"] = np.ones(WIDTH, np.float32)
        weights[f"{name}.bias"] = np.zeros(WIDTH, np.float32)
    save_file(weights, folder / "model.safetensors")
    tokens = (bytes(one) for size in (1, 2) for one in itertools.product(range(256), repeat=size))
    lines = (
        b"%s %d\n" % (base64.b64encode(token), rank)
        for rank, token in enumerate(itertools.islice(tokens, NUM_TOKENS - 1))  # and end of text
    )
    (folder / RANKS_FILE).write_bytes(b"".join(lines))
