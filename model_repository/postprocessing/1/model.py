"""Triton model `postprocessing`: padded rows of token ids in, text out."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nanotriton.contract import (
    COMPLETION_TOKENS,
    OUTPUT_IDS,
    TEXT_BYTES,
    TEXT_OUTPUT,
    newest_version,
)
from nanotriton.tokenizer import load_tokenizer


class TritonPythonModel:
    """Decodes each row of output_ids, (B, T) INT32, up to its tokens and its bytes of text.

    The engine decides where a text ends (a stop string may end inside a token): `text_bytes` is
    that decision, and this model only carries it out.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer of the newest exported version."""
        folder = newest_version(Path(args["model_repository"]).parent)
        self._tokenizer = load_tokenizer(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Decode every request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        ids, counts, sizes = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in (OUTPUT_IDS, COMPLETION_TOKENS, TEXT_BYTES)
        )
        if ids.size and not 0 <= ids.min() <= ids.max() < self._tokenizer.num_tokens:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(
                    f"{OUTPUT_IDS} run from {ids.min()} to {ids.max()}, the vocabulary from 0 to "
                    f"{self._tokenizer.num_tokens - 1}",
                    pb_utils.TritonError.INVALID_ARG,
                )
            )
        texts = [
            self._tokenizer.decode(row[:count].tolist()).encode()[:size]
            for row, (count,), (size,) in zip(ids, counts, sizes, strict=True)
        ]
        output = np.array(texts, np.object_).reshape(-1, 1)  # (B, 1)
        return pb_utils.InferenceResponse([pb_utils.Tensor(TEXT_OUTPUT, output)])
