"""Nodes and NumPy weights in, a graph and its weights (model.onnx, model.onnx.data) out; and back.

All weights lie in one file beside the graph, because protobuf ends at 2 GB (GPT-2 XL is 6 GB).
They are written and read one at a time, so a model never stands in memory twice. Knows nothing of
what the graph computes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export import slot_attention
from nanotriton import contract
from nanotriton.contract import GRAPH_FILE

OPSET = 20
CONTRIB_DOMAIN = "com.microsoft"
# A cache line: readers map whole pages and step to the offset, kernels load aligned vectors.
ALIGNMENT_BYTES = 64
# Smaller ones (axes, scales) stay in the graph, where checkers and optimisers look for them.
MIN_EXTERNAL_BYTES = 1024


class Weights(Mapping[str, NDArray[np.generic]]):
    """The tensors of a written model, read from its files when asked for."""

    def __init__(self, graph: onnx.GraphProto, folder: Path) -> None:
        self._tensors = {tensor.name: tensor for tensor in graph.initializer}
        self._folder = folder

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        tensor = self._tensors[name]
        if tensor.data_location != TensorProto.EXTERNAL:
            return numpy_helper.to_array(tensor)  # type: ignore[no-any-return]
        place = {entry.key: entry.value for entry in tensor.external_data}
        return np.memmap(
            self._folder / place["location"],
            dtype=helper.tensor_dtype_to_np_dtype(tensor.data_type),
            mode="r",
            offset=int(place["offset"]),
            shape=tuple(tensor.dims),
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def placed(self, name: str) -> TensorProto | None:
        """Where a tensor lies in the weights file; None when the graph holds it, or has none."""
        tensor = self._tensors.get(name)
        is_outside = tensor is not None and tensor.data_location == TensorProto.EXTERNAL
        return tensor if is_outside else None


@dataclass(frozen=True, slots=True)
class Model:
    """A graph and its weights by name."""

    nodes: Sequence[onnx.NodeProto]
    inputs: Sequence[onnx.ValueInfoProto]
    outputs: Sequence[onnx.ValueInfoProto]
    weights: Mapping[str, NDArray[np.generic]]
    opset: int = OPSET


def write_model(
    model: Model, folder: Path, graph_file: str = GRAPH_FILE, shared: Weights | None = None
) -> None:
    """Write the graph and its weights beside it, and check the graph.

    A weight that `shared`, a model written to the same folder before, has under the same name and
    with the same values is not written again: both graphs read it from that one's file.
    """
    weights_file = f"{graph_file}.data"
    with (folder / weights_file).open("wb") as file:
        tensors = []
        for name, weight in model.weights.items():
            array = np.ascontiguousarray(weight).reshape(weight.shape)
            if array.nbytes < MIN_EXTERNAL_BYTES:
                tensors.append(numpy_helper.from_array(array, name))
                continue
            placed = shared.placed(name) if shared is not None else None
            if shared is not None and placed and np.array_equal(shared[name], array):
                tensors.append(placed)
                continue
            file.write(bytes(-file.tell() % ALIGNMENT_BYTES))
            tensors.append(_external_tensor(name, array, weights_file, file.tell()))
            file.write(array.data)  # unlike tofile, it says why when the disk is full
    types = slot_attention.types_of(model.nodes)
    graph = helper.make_graph(
        list(model.nodes), "gpt", model.inputs, model.outputs, tensors, value_info=types
    )
    opsets = [helper.make_opsetid("", model.opset), helper.make_opsetid(CONTRIB_DOMAIN, 1)]
    functions = slot_attention.functions_of(model.nodes, opsets)
    own = helper.make_opsetid(slot_attention.DOMAIN, slot_attention.VERSION)
    proto = helper.make_model(
        graph,
        functions=functions,
        opset_imports=[*opsets, own] if functions else opsets,
        ir_version=helper.find_min_ir_version_for(opsets[:1]),
        producer_name="nanotriton",
    )
    if functions:
        helper.set_model_props(proto, {contract.SLOT_ATTENTION: str(slot_attention.VERSION)})
    onnx.save_model(proto, folder / graph_file)
    onnx.checker.check_model(str(folder / graph_file), full_check=True)


def read_model(folder: Path, graph_file: str = GRAPH_FILE) -> Model:
    """Read what `write_model` wrote; the weights stay in their file until they are asked for."""
    proto = onnx.load_model(folder / graph_file, load_external_data=False)
    graph, opset = proto.graph, proto.opset_import[0].version
    return Model(graph.node, graph.input, graph.output, Weights(graph, folder), opset)


def _external_tensor(
    name: str, array: NDArray[np.generic], weights_file: str, offset: int
) -> TensorProto:
    tensor = TensorProto(
        name=name,
        dims=array.shape,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    place = {"location": weights_file, "offset": offset, "length": array.nbytes}
    for key, value in place.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
