"""llama.cpp through its C interface: F16 GGUF written by hand, then its own quantization.

llama-cpp-python's own loop runs one sequence at a time; this one gives llama.cpp all of them in one
batch, as its server does, each with a stream of the cache to itself.
"""

import ctypes
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.serving import Options, serve
from benchmarks.peers.weights import Weights, load_weights

FILE_TYPES = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}
MAX_BATCH, MAX_PASS = 4096, 512  # tokens a call, and a pass through the model
LAYER_TENSORS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


class LlamaCpp:
    """A model and one context of many sequences."""

    def __init__(self, options: Options) -> None:
        plain, path = options.work / "f16.gguf", options.work / f"{options.precision}.gguf"
        if not plain.is_file():
            write_gguf(load_weights(options.checkpoint), plain)
        llama_cpp.llama_backend_init()
        if not path.is_file():
            _quantize(plain, path, FILE_TYPES[options.precision])
        model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        assert model, f"llama.cpp can't load {path}"
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = options.max_sequences * options.max_tokens
        settings.n_seq_max = options.max_sequences
        settings.n_batch, settings.n_ubatch = MAX_BATCH, MAX_PASS
        settings.n_threads = settings.n_threads_batch = options.num_threads
        settings.kv_unified = False
        self._context = llama_cpp.llama_init_from_model(model, settings)
        assert self._context, "llama.cpp can't make a context"
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(MAX_BATCH, 0, 1)

    def generate(
        self, prompts: Sequence[Sequence[int]], num_new: int, on_first: Callable[[], None]
    ) -> list[list[int]]:
        """One batch for all prompts, then one a token."""
        llama_cpp.llama_memory_clear(self._memory, True)
        newest = self._decode([list(prompt) for prompt in prompts], 0)
        on_first()
        tokens = [[one] for one in newest]
        for number in range(num_new - 1):
            newest = self._decode([[one] for one in newest], len(prompts[0]) + number)
            for found, one in zip(tokens, newest, strict=True):
                found.append(one)
        return tokens

    def _decode(self, parts: list[list[int]], start: int) -> list[int]:
        """Append tokens to each sequence at position `start`; the likeliest next one of each."""
        batch, index, lasts = self._batch, 0, []
        for sequence, part in enumerate(parts):
            for offset, token in enumerate(part):
                batch.token[index] = token
                batch.pos[index] = start + offset
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = sequence
                batch.logits[index] = offset == len(part) - 1
                index += 1
            lasts.append(index - 1)
        batch.n_tokens = index
        status = llama_cpp.llama_decode(self._context, batch)
        assert status == 0, f"llama_decode ended with {status}"
        return [int(self._logits(last).argmax()) for last in lasts]

    def _logits(self, index: int) -> NDArray[np.float32]:
        """(V,) logits behind a token of the last batch."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self._vocab_size,))


def write_gguf(weights: Weights, path: Path) -> None:
    """GPT-2 as llama.cpp names it, linears in float16; it has no vocabulary of its own."""
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(weights.context)
    writer.add_embedding_length(weights.width)
    writer.add_feed_forward_length(4 * weights.width)
    writer.add_block_count(weights.num_layers)
    writer.add_head_count(weights.num_heads)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(weights.vocab_size)
    tensors = weights.tensors
    writer.add_tensor("token_embd.weight", tensors["wte.weight"].astype(np.float16))
    writer.add_tensor("position_embd.weight", tensors["wpe.weight"])
    writer.add_tensor("output.weight", weights.head.astype(np.float16))
    for kind in ("weight", "bias"):
        writer.add_tensor(f"output_norm.{kind}", tensors[f"ln_f.{kind}"])
        for index in range(weights.num_layers):
            for source, target in LAYER_TENSORS.items():
                tensor = tensors[f"h.{index}.{source}.{kind}"]
                if tensor.ndim == 2:
                    tensor = tensor.T.astype(np.float16)  # (outputs, inputs)
                writer.add_tensor(f"blk.{index}.{target}.{kind}", np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _quantize(source: Path, target: Path, file_type: int) -> None:
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = file_type
    status = llama_cpp.llama_model_quantize(
        str(source).encode(), str(target).encode(), ctypes.byref(settings)
    )
    assert status == 0, f"llama_model_quantize ended with {status}"


if __name__ == "__main__":
    sys.exit(serve(LlamaCpp, ("llama-cpp-python",)))
