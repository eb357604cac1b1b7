"""Triton model `postprocessing`: padded rows of token ids in, text out."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nanotriton.contract import HEALED_BYTES, OUTPUT_IDS, TEXT_BYTES, TEXT_OUTPUT, TEXT_TOKENS
from nanotriton.manifest import newest_version
from nanotriton.tokenizer import TextDecoder, load_tokenizer


class TritonPythonModel:
    """Decodes each row of output_ids, (B, T) INT32: n texts, one after another.

    The engine decides where a text begins and ends (a healed prompt, or a stop string, may end
    inside a token): `healed_bytes` and `text_bytes`, (B, n), are that decision, and this model only
    carries it out.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer of the newest exported version."""
        folder = newest_version(Path(args["model_repository"]).parent)
        self._tokenizer = load_tokenizer(folder)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Decode every request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        ids, *texts = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in (OUTPUT_IDS, TEXT_TOKENS, HEALED_BYTES, TEXT_BYTES)
        )
        if ids.size and not 0 <= ids.min() <= ids.max() < self._tokenizer.num_tokens:
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(
                    f"{OUTPUT_IDS} run from {ids.min()} to {ids.max()}, the vocabulary from 0 to "
                    f"{self._tokenizer.num_tokens - 1}",
                    pb_utils.TritonError.INVALID_ARG,
                )
            )
        output = np.array(
            [self._decode(*row) for row in zip(ids, *texts, strict=True)], np.object_
        )  # (B, n)
        return pb_utils.InferenceResponse([pb_utils.Tensor(TEXT_OUTPUT, output)])

    def _decode(self, ids: Any, counts: Any, starts: Any, sizes: Any) -> list[bytes]:
        """The n texts of a row."""
        texts = []
        table = self._tokenizer.table
        for end, count, start, size in zip(np.cumsum(counts), counts, starts, sizes, strict=True):
            raw = b"".join(table[token] for token in ids[end - count : end])
            texts.append(TextDecoder(table).push_bytes(raw[start:]).encode()[:size])
        return texts
