"""A float32 model.onnx in, the same with its weights stored in FP16 out.

Half the bytes on disk and over the network. x86 processors don't compute in FP16, and ONNX Runtime
would cast around every operator; here each weight is cast once, when the model is loaded, and all
is computed in float32 as before. Norms stay float32. Knows nothing of checkpoints.
"""

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.model_file import MIN_EXTERNAL_BYTES, Model
from nanotriton.errors import CheckpointError


def halve_model(model: Model) -> Model:
    """Store every weight of some size in FP16; raises CheckpointError for what that can't hold."""
    casts = []
    weights: dict[str, NDArray[np.generic]] = {}
    for name in model.weights:
        weight = model.weights[name]
        if weight.dtype != np.float32 or weight.ndim < 2 or weight.nbytes < MIN_EXTERNAL_BYTES:
            weights[name] = weight
            continue
        half = f"{name}_half"
        weights[half] = to_half(name, weight)
        casts.append(helper.make_node("Cast", [half], [name], name=name, to=TensorProto.FLOAT))
    return Model([*casts, *model.nodes], model.inputs, model.outputs, weights, model.opset)


def to_half(name: str, weight: NDArray[np.generic]) -> NDArray[np.float16]:
    """A weight in FP16; raises CheckpointError instead of writing an infinity."""
    largest, limit = float(np.abs(weight).max()), float(np.finfo(np.float16).max)
    if largest > limit:
        raise CheckpointError(
            f"the checkpoint's {name} reaches {largest:.6g}, FP16 ends at {limit:.6g}: export it "
            "with --precision fp32"
        )
    return weight.astype(np.float16)
