"""A Triton model of an afternoon: PyTorch with a KV cache, one request after another.

Text in, pieces of text out; the last response has the count of tokens. Whoever closes the stream
ends the request behind the token under way.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from benchmarks.peers.serving import Options
from benchmarks.peers.transformers import Transformers
from nanotriton.tokenizer import TextDecoder, load_tokenizer


class TritonPythonModel:
    """Each request: text_input and max_tokens in, responses with a piece of text_output out."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load what the parameters name."""
        found = json.loads(args["model_config"])["parameters"]
        given = {name: one["string_value"] for name, one in found.items()}
        checkpoint, tokenizer = Path(given["checkpoint"]), Path(given["tokenizer"])
        threads, self._max_tokens = int(given["num_threads"]), int(given["max_tokens"])
        self._tokenizer = load_tokenizer(tokenizer)
        self._model = Transformers(
            Options(
                *(checkpoint, checkpoint, given["precision"], threads, 1, self._max_tokens),
                tokenizer=tokenizer,
            )
        )

    def execute(self, requests: list[Any]) -> None:
        """One after another."""
        for request in requests:
            self._answer(request, request.get_response_sender())

    def _answer(self, request: Any, sender: Any) -> None:
        num_new = min(int(_value(request, "max_tokens", 16)), self._max_tokens - 1)
        end = None if _value(request, "ignore_eos", False) else self._tokenizer.end_of_text
        prompt = self._tokenizer.encode(_value(request, "text_input", b"").decode())
        decoder, num_tokens = TextDecoder(self._tokenizer.table), 0
        steps = self._model.generate([prompt[-(self._max_tokens - num_new) :]], num_new)
        for ((_, token),) in steps:
            if token == end or request.is_cancelled():
                break
            num_tokens += 1
            sender.send(_response(decoder.push([token]), 0))
        steps.close()
        sender.send(_response("", num_tokens), flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _value(request: Any, name: str, default: Any) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy()[0]


def _response(text: str, num_tokens: int) -> Any:
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("text_output", np.array([text.encode()], object)),
            pb_utils.Tensor("completion_tokens", np.array([num_tokens], np.int32)),
        ]
    )
