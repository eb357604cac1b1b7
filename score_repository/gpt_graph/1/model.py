"""Triton model `gpt_graph`: token ids in, scores out; what `gpt_plan` does, without a GPU."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

from nanotriton.contract import (
    GRAPH_FILE,
    GRAPH_INPUT_IDS,
    GRAPH_LOGPROB,
    GRAPH_LOGPROBS,
    GRAPH_PLACES,
    GRAPH_RANKS,
    GRAPH_TARGETS,
)

INPUTS = (GRAPH_INPUT_IDS, GRAPH_PLACES, GRAPH_TARGETS)
OUTPUTS = (GRAPH_LOGPROB, GRAPH_LOGPROBS, GRAPH_RANKS)


class TritonPythonModel:
    """Rows of input_ids (B, T), places and targets (B, C), to what the targets are worth."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the graph of this version."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        # Threads that spin between requests take the cores from the engine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        graph = Path(args["model_repository"], args["model_version"], GRAPH_FILE)
        self._session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """All requests of a batch have one shape, so they are one call."""
        tensors = [
            {name: pb_utils.get_input_tensor_by_name(one, name).as_numpy() for name in INPUTS}
            for one in requests
        ]
        feeds = {name: np.concatenate([one[name] for one in tensors]) for name in INPUTS}
        found = self._session.run(OUTPUTS, feeds)
        ends = np.cumsum([len(one[GRAPH_INPUT_IDS]) for one in tensors])[:-1]
        parts = [np.split(array, ends) for array in found]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor(name, array) for name, array in zip(OUTPUTS, row, strict=True)]
            )
            for row in zip(*parts, strict=True)
        ]
