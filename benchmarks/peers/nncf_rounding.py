"""Weights in, the same rounded and restored as NNCF compresses them for OpenVINO out.

    python -m benchmarks.peers.nncf_rounding INT4 EXACT.safetensors ROUNDED.safetensors

In OpenVINO's environment. Weights are (outputs, inputs). As optimum-intel asks for by default: INT4
with a scale and a zero point for 128 weights, embeddings and head in 8 bits; INT8 with those of a
row. The restored weight is what the compressed product makes of the identity.
"""

import sys

import nncf
import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13
from safetensors.numpy import load_file, save_file

EIGHT_BITS = ("lm_head.weight", "wte.weight")
GROUP_SIZE = 128
# Activations are rounded too unless told not to, and products made in 16 bits where that is faster.
EXACT = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0", "INFERENCE_PRECISION_HINT": "f32"}


def main(words: list[str]) -> int:
    """Round every tensor of a file."""
    form, source, target = words
    rounded = {
        name: _round(weight, "INT8" if name in EIGHT_BITS else form)
        for name, weight in load_file(source).items()
    }
    save_file(rounded, target)
    return 0


def _round(weight: NDArray[np.float32], form: str) -> NDArray[np.float32]:
    num_inputs = weight.shape[1]
    x = opset13.parameter([-1, num_inputs], np.float32)
    product = opset13.matmul(x, opset13.constant(weight), transpose_a=False, transpose_b=True)
    model = openvino.Model([product], [x])
    settings = (
        {"ratio": 1.0, "group_size": GROUP_SIZE, "all_layers": True} if form == "INT4" else {}
    )
    mode = nncf.CompressWeightsMode[f"{form}_ASYM"]
    compressed = nncf.compress_weights(model, mode=mode, **settings)
    run = openvino.compile_model(compressed, "CPU", EXACT)
    restored = run(np.eye(num_inputs, dtype=np.float32))[0]  # (inputs, outputs)
    return np.ascontiguousarray(restored.T)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
