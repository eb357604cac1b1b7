"""A checkpoint and a text in, what torch's dynamic int8 does to its quality out: a yardstick.

    python -m benchmarks.peers.torch_int8 demo --text VAL.txt --tokens 16384

The same windows and figures as `python -m export compare` has for our own precisions. Attention,
norms and embeddings are those of export's reference; every linear and the head are torch's
`quantize_dynamic`: 8-bit weights, activations with one scale a call. Needs torch.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.ao import quantization

from benchmarks.peers.rounding import describe, measure
from export.architecture import EMBEDDING_WEIGHT, HEAD_WEIGHT, is_linear
from export.checkpoint import Checkpoint, load_checkpoint
from export.parity import default_text, read_text
from export.reference import Reference
from nanotriton.errors import NanotritonError

Floats = NDArray[np.float32]
QCONFIGS = {
    "one scale a weight (torch's default)": quantization.default_dynamic_qconfig,
    "one scale a column": quantization.per_channel_dynamic_qconfig,
}


class TorchInt8(Reference):
    """The reference, with linears and head quantized by torch."""

    def __init__(self, checkpoint: Checkpoint, qconfig: Any) -> None:
        super().__init__(checkpoint)
        linears = {
            name.removesuffix(".weight"): weight.T
            for name, weight in checkpoint.weights.items()
            if is_linear(name)
        }
        linears["head"] = checkpoint.weights[EMBEDDING_WEIGHT if checkpoint.tied else HEAD_WEIGHT]
        modules = {_key(name): _module(weight) for name, weight in linears.items()}
        model = torch.nn.ModuleDict(modules)
        quantize: Any = quantization.quantize_dynamic  # untyped
        with warnings.catch_warnings():  # it is to move to torchao
            warnings.simplefilter("ignore")
            self._modules = quantize(model, {torch.nn.Linear: qconfig})

    def logits(self, hidden: Floats) -> Floats:
        """(R, H * D) rows of `hidden` to (R, V)."""
        return self._call("head", hidden)

    def _linear(self, x: Floats, name: str) -> Floats:
        bias = self._weights.get(f"{name}.bias")
        y = self._call(name, x)
        return y if bias is None else y + bias

    def _call(self, name: str, x: Floats) -> Floats:
        with torch.inference_mode():
            found: Floats = self._modules[_key(name)](torch.from_numpy(x)).numpy()
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Print one row a way of quantizing."""
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)
    try:
        checkpoint = load_checkpoint(args.checkpoint)
        text = read_text(args.text, "--text") if args.text else default_text()
        for name, qconfig in QCONFIGS.items():
            report = measure(checkpoint, TorchInt8(checkpoint, qconfig), text, args.tokens)
            print(describe(name, report))
    except (NanotritonError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.torch_int8")
    parser.add_argument("checkpoint", type=Path, help="nanoGPT ckpt.pt or GPT-2 folder")
    parser.add_argument("--text", type=Path, help="default: Python sources")
    parser.add_argument("--tokens", type=int, default=4096, help="default: %(default)s")
    return parser


def _module(weight: Floats) -> torch.nn.Linear:
    """A linear without bias of a weight (out, in)."""
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = torch.tensor(np.ascontiguousarray(weight))
    return linear


def _key(name: str) -> str:
    """A name that torch takes for a module."""
    return name.replace(".", "_")


if __name__ == "__main__":
    sys.exit(main())
