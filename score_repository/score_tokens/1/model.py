"""Triton model `score_tokens`: pairs of a text and a continuation in, padded token ids out."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nanotriton.contract import (
    CONTINUATION,
    GRAPH_INPUT_IDS,
    GRAPH_PLACES,
    GRAPH_TARGETS,
    NUM_TOKENS,
    TEXT_INPUT,
)
from nanotriton.engine.request import utf8
from nanotriton.errors import NanotritonError
from nanotriton.manifest import Manifest
from nanotriton.scoring import ScoreLimits, encode_pair, pad_pairs
from nanotriton.tokenizer import load_tokenizer


class TritonPythonModel:
    """Tokenizes each row of text_input and continuation, (B, 1) BYTES each."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer and the sizes of this version."""
        folder = Path(args["model_repository"], args["model_version"])
        self._tokenizer = load_tokenizer(folder)
        self._limits = ScoreLimits.of(Manifest.load(folder))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own, so that a bad one harms no other."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        texts, continuations = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()[:, 0]
            for name in (TEXT_INPUT, CONTINUATION)
        )
        try:
            pairs = [
                encode_pair(
                    utf8(text, TEXT_INPUT),
                    utf8(continuation, CONTINUATION),
                    self._tokenizer,
                    self._limits,
                )
                for text, continuation in zip(texts, continuations, strict=True)
            ]
        except NanotritonError as error:
            status = getattr(pb_utils.TritonError, error.status)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), status))
        padded = pad_pairs(pairs, self._limits)
        counts = np.array([[one.num_tokens] for one in pairs], np.int32)
        named = {
            GRAPH_INPUT_IDS: padded.input_ids,
            GRAPH_PLACES: padded.places,
            GRAPH_TARGETS: padded.targets,
            NUM_TOKENS: counts,
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in named.items()])
