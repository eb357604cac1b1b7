"""Triton model `preprocessing`: prompts as text in, padded rows of token ids out."""

from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from nanotriton.contract import INPUT_IDS, INPUT_LENGTHS, SUFFIX, TEXT_INPUT
from nanotriton.engine.request import Settings, refuse_unknown, utf8
from nanotriton.errors import InvalidRequest, NanotritonError
from nanotriton.infill import Markers
from nanotriton.manifest import Manifest, newest_version
from nanotriton.prompt import encode_prompt
from nanotriton.tokenizer import load_tokenizer


class TritonPythonModel:
    """Tokenizes each row of text_input, (B, 1) BYTES, and of suffix, which is optional.

    What the model can't read is refused.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the tokenizer of the newest exported version."""
        folder = newest_version(Path(args["model_repository"]).parent)
        self._tokenizer = load_tokenizer(folder)
        manifest = Manifest.load(folder)
        self._context = manifest.context
        special_tokens, order = self._tokenizer.special_tokens, manifest.infill_order
        self._markers = Markers.of(special_tokens, order) if manifest.infill else None

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request on its own, so that a bad one harms no other."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            rows = self._encode(request)
        except NanotritonError as error:
            status = getattr(pb_utils.TritonError, error.status)
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error), status))
        lengths = np.array([[len(row)] for row in rows], np.int32)  # (B, 1)
        ids = np.zeros((len(rows), int(lengths.max())), np.int32)  # (B, T)
        for padded, row in zip(ids, rows, strict=True):
            padded[: len(row)] = row
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(INPUT_IDS, ids), pb_utils.Tensor(INPUT_LENGTHS, lengths)]
        )

    def _encode(self, request: Any) -> list[list[int]]:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        refuse_unknown(request.parameters())
        texts = tensors.get(TEXT_INPUT)
        if texts is None:  # the server lets it pass when an optional input is there
            raise InvalidRequest(f"the input {TEXT_INPUT} is missing: send the prompt in it")
        suffixes = tensors.get(SUFFIX)
        rows = []
        for row, (raw,) in enumerate(texts):
            settings = Settings.from_tensors(tensors, row)
            rows.append(
                encode_prompt(
                    utf8(raw, TEXT_INPUT),
                    self._tokenizer,
                    self._context,
                    settings.max_tokens,
                    settings.truncate,
                    suffix="" if suffixes is None else utf8(suffixes[row, 0], SUFFIX),
                    markers=self._markers,
                )
            )
        return rows
