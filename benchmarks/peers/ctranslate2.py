"""CTranslate2: its decoder specification filled by hand, quantized to INT8 as it is written."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
from ctranslate2.specs import transformer_spec
from ctranslate2.specs.common_spec import Activation

from benchmarks.peers.batches import Steps, batched
from benchmarks.peers.serving import Options, serve
from benchmarks.peers.weights import Weights, load_weights

END = "end"


class CTranslate2:
    """A generator of static batches."""

    def __init__(self, options: Options) -> None:
        folder = options.work / options.precision
        if not folder.is_dir():
            write_model(load_weights(options.checkpoint), folder, options.precision)
        self._generator = ctranslate2.Generator(
            str(folder), device="cpu", intra_threads=options.num_threads
        )

    def generate(self, prompts: Sequence[Sequence[int]], num_new: int) -> Steps:
        """All prompts in one batch; longer ones get their first token later."""
        results = self._generator.generate_tokens(
            [[str(token) for token in prompt] for prompt in prompts],
            max_length=num_new,
            min_length=num_new,
            sampling_topk=1,
        )
        try:
            for result in results:
                yield [(result.batch_id, result.token_id)]
        finally:
            results.close()  # which ends its thread's work


def write_model(weights: Weights, folder: Path, precision: str) -> None:
    """The model's folder in CTranslate2's own format."""
    activation = Activation.GELUTanh if weights.is_tanh else Activation.GELU
    spec = transformer_spec.TransformerDecoderModelSpec.from_config(
        weights.num_layers, weights.num_heads, pre_norm=True, activation=activation
    )
    decoder, tensors = spec.decoder, weights.tensors
    decoder.scale_embeddings = False
    decoder.embeddings.weight = tensors["wte.weight"]
    decoder.position_encodings.encodings = tensors["wpe.weight"]
    decoder.projection.weight = weights.head
    _set_norm(decoder.layer_norm, weights, "ln_f")
    for index, layer in enumerate(decoder.layer):
        attention, mlp = layer.self_attention, layer.ffn
        _set_norm(attention.layer_norm, weights, f"h.{index}.ln_1")
        _set_linear(attention.linear[0], weights, f"h.{index}.attn.c_attn")
        _set_linear(attention.linear[1], weights, f"h.{index}.attn.c_proj")
        _set_norm(mlp.layer_norm, weights, f"h.{index}.ln_2")
        _set_linear(mlp.linear_0, weights, f"h.{index}.mlp.c_fc")
        _set_linear(mlp.linear_1, weights, f"h.{index}.mlp.c_proj")
    spec.register_vocabulary([*map(str, range(weights.vocab_size - 1)), END])
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = END
    spec.validate()
    spec.optimize(quantization=precision)
    folder.mkdir()
    spec.save(str(folder))


def _set_norm(spec: Any, weights: Weights, name: str) -> None:
    spec.gamma = weights.tensors[f"{name}.weight"]
    spec.beta = weights.tensors[f"{name}.bias"]


def _set_linear(spec: Any, weights: Weights, name: str) -> None:
    spec.weight = weights.tensors[f"{name}.weight"].T.copy()  # (outputs, inputs)
    spec.bias = weights.tensors[f"{name}.bias"]


if __name__ == "__main__":
    sys.exit(serve(batched(CTranslate2), ("ctranslate2",)))
