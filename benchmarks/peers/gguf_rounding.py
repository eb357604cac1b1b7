"""Weights in, the same rounded and restored as llama.cpp's formats have them out.

    python -m benchmarks.peers.gguf_rounding Q4_0 EXACT.safetensors ROUNDED.safetensors

In llama.cpp's environment, with its own package gguf. Weights are (outputs, inputs). The head of a
Q4_0 file has Q6_K there, which the package only reads: Q8_0 here, which is closer.
"""

import sys

import gguf
import numpy as np
from safetensors.numpy import load_file, save_file

HEAD = "lm_head.weight"


def main(words: list[str]) -> int:
    """Round every tensor of a file."""
    form, source, target = words
    rounded = {}
    for name, weight in load_file(source).items():
        kind = gguf.GGMLQuantizationType["Q8_0" if name == HEAD else form]
        codes = gguf.quants.quantize(weight, kind)
        rounded[name] = gguf.quants.dequantize(codes, kind).astype(np.float32)
    save_file(rounded, target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
