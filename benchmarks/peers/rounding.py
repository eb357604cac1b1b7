"""A checkpoint and a text in, what other engines' rounding of the same weights does to it out.

    python -m benchmarks peers --install llama-cpp openvino-genai
    python -m benchmarks.peers.rounding demo --text VAL.txt --tokens 16384

Each engine's own package rounds the weights, in the environment of that engine; restored to
float32 they run in export's reference, on the windows that `python -m export compare` takes. So
this is the rounding of weights alone: no engine's rounding of activations is in it.
"""

import argparse
import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from benchmarks.peers.catalogue import DEFAULT_VENVS, HERE, PeerError
from export.architecture import EMBEDDING_WEIGHT, HEAD_WEIGHT, is_linear
from export.checkpoint import Checkpoint, load_checkpoint
from export.comparison import Report, Tally
from export.parity import cut_windows, default_text, encode_known, read_text
from export.reference import Reference
from export.standing import NUM_SLOTS
from nanotriton.errors import NanotritonError
from nanotriton.runners.fake import FakeRunner

ROOT = HERE.parent.parent

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Rounding:
    """One format of an engine, and the module that rounds to it in that engine's environment."""

    name: str
    engine: str
    module: str
    form: str


ROUNDINGS = (
    Rounding("llama.cpp Q8_0", "llama-cpp", "gguf_rounding", "Q8_0"),
    Rounding("llama.cpp Q4_0", "llama-cpp", "gguf_rounding", "Q4_0"),
    Rounding("OpenVINO int8", "openvino-genai", "nncf_rounding", "INT8"),
    Rounding("OpenVINO int4", "openvino-genai", "nncf_rounding", "INT4"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one row a rounding; 1 when one is not installed."""
    args = build_parser().parse_args(argv)
    try:
        checkpoint = load_checkpoint(args.checkpoint)
        text = read_text(args.text, "--text") if args.text else default_text()
        for rounding in ROUNDINGS:
            rounded = round_checkpoint(checkpoint, rounding, args.venvs)
            print(
                describe(rounding.name, measure(checkpoint, Reference(rounded), text, args.tokens))
            )
    except (NanotritonError, PeerError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.rounding")
    parser.add_argument("checkpoint", type=Path, help="nanoGPT ckpt.pt or GPT-2 folder")
    parser.add_argument("--text", type=Path, help="default: Python sources")
    parser.add_argument("--tokens", type=int, default=4096, help="default: %(default)s")
    parser.add_argument("--venvs", type=Path, default=DEFAULT_VENVS, help="the peers' environments")
    return parser


def round_checkpoint(checkpoint: Checkpoint, rounding: Rounding, venvs: Path) -> Checkpoint:
    """The checkpoint of the restored weights; raises PeerError when the engine can't round it."""
    python = venvs.absolute() / rounding.engine / "bin" / "python"
    if not python.is_file():
        raise PeerError(
            f"{rounding.name} is not installed in {venvs}: python -m benchmarks peers --install "
            f"{rounding.engine}"
        )
    weights = dict(checkpoint.weights)
    weights.setdefault(HEAD_WEIGHT, weights[EMBEDDING_WEIGHT])
    linears = {name for name in weights if is_linear(name)}  # (inputs, outputs)
    exact = {
        name: np.ascontiguousarray(weights[name].T if name in linears else weights[name])
        for name in (*linears, EMBEDDING_WEIGHT, HEAD_WEIGHT)
    }
    with tempfile.TemporaryDirectory() as temporary:
        source, target = (Path(temporary) / f"{name}.safetensors" for name in ("exact", "rounded"))
        save_file(exact, source)
        module = f"benchmarks.peers.{rounding.module}"
        words = [str(python), "-m", module, rounding.form, str(source), str(target)]
        done = subprocess.run(words, cwd=ROOT, check=False, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise PeerError(f"{rounding.name} can't round these weights: {last}")
        rounded = load_file(target)
    restored = {name: rounded[name].T if name in linears else rounded[name] for name in exact}
    return dataclasses.replace(checkpoint, weights=weights | restored)


def measure(checkpoint: Checkpoint, other: Reference, text: str, max_tokens: int) -> Report:
    """Compare another reference with the checkpoint's on about so many tokens of a text."""
    config = checkpoint.config
    slots = FakeRunner(NUM_SLOTS, config.context, config.vocab_size)
    reference, tally = Reference(checkpoint), Tally()
    for window in cut_windows(encode_known(checkpoint.vocabulary, text), slots, max_tokens):
        expected = reference.logits(reference.hidden(window))
        found = other.logits(other.hidden(window))
        top = found.max(axis=1)
        lse = top + np.log(np.exp(found - top[:, None]).sum(axis=1))
        tally.add(expected, found, lse, window[1:])
    return tally.report(np.ones(1, np.bool_))  # no greedy texts are written


def describe(name: str, report: Report) -> str:
    """One row of the table."""
    return (
        f"{name:<38} perplexity {report.perplexity_artifact:.3f} "
        f"({report.perplexity_rise:+.2%}), KL {report.mean_kl:.1e}, top-1 {report.top1:.2%}"
    )


if __name__ == "__main__":
    sys.exit(main())
