"""llama.cpp through its C interface: F16 GGUF written by hand, then its own quantization.

llama-cpp-python's own loop runs one sequence at a time; this one batches continuously, as
llama.cpp's server does: each slot has a stream of the cache to itself, every call takes the newest
token of all running sequences and as much of new prompts as there is room for, and of a server a
slot's tokens stay for the next prompt that begins like them.
"""

import ctypes
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.serving import Options, serve
from benchmarks.peers.weights import Weights, load_weights

FILE_TYPES = {"q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0}
MAX_BATCH, MAX_PASS = 2048, 512  # tokens a call, and a pass through the model: llama-server's
LAYER_TENSORS = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}


@dataclass(slots=True)
class Slot:
    """One stream of the cache: the tokens in it, and the request that it works for, if any."""

    number: int
    held: list[int] = field(default_factory=list)
    pending: list[int] = field(default_factory=list)  # to be computed next
    key: int | None = None
    num_left: int = 0


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
        self._reuses = options.is_server
        self._waiting: deque[tuple[int, list[int], int]] = deque()
        self._slots = [Slot(number) for number in range(options.max_sequences)]

    def add(self, key: int, prompt: Sequence[int], num_new: int) -> None:
        """It waits for a slot."""
        self._waiting.append((key, list(prompt), num_new))

    def cancel(self, key: int) -> None:
        """Its slot is free for the next step."""
        self._waiting = deque(one for one in self._waiting if one[0] != key)
        for slot in self._slots:
            if slot.key == key:
                slot.key, slot.pending = None, []

    def step(self) -> list[tuple[int, int]]:
        """One call for all slots that work."""
        while self._waiting and any(slot.key is None for slot in self._slots):
            self._place(*self._waiting.popleft())
        parts: list[tuple[Slot, list[int]]] = []
        room = MAX_BATCH
        for slot in sorted(self._slots, key=lambda one: len(one.pending)):  # running ones first
            if tokens := slot.pending[:room]:
                parts.append((slot, tokens))
                room -= len(tokens)
        lasts = zip(parts, self._decode(parts), strict=True)
        return [self._commit(slot, last) for (slot, _), last in lasts if not slot.pending]

    def _place(self, key: int, prompt: list[int], num_new: int) -> None:
        """Into the free slot that holds most of its beginning; the last token brings the logits."""
        free = [slot for slot in self._slots if slot.key is None]
        slot = max(free, key=lambda one: _num_alike(one.held, prompt))
        kept = min(_num_alike(slot.held, prompt), len(prompt) - 1) if self._reuses else 0
        llama_cpp.llama_memory_seq_rm(self._memory, slot.number, kept, -1)
        slot.held, slot.pending = prompt[:kept], prompt[kept:]
        slot.key, slot.num_left = key, num_new

    def _commit(self, slot: Slot, last: int) -> tuple[int, int]:
        """The likeliest token behind place `last` of the batch, for the slot's request."""
        assert slot.key is not None
        key, token = slot.key, int(self._logits(last).argmax())
        slot.num_left -= 1
        if slot.num_left:
            slot.pending = [token]
        else:
            slot.key = None
        return key, token

    def _decode(self, parts: Sequence[tuple[Slot, list[int]]]) -> list[int]:
        """Append tokens to each slot; the place in the batch of the last one of each."""
        batch, index, lasts = self._batch, 0, []
        for slot, tokens in parts:
            slot.pending = slot.pending[len(tokens) :]
            for offset, token in enumerate(tokens):
                batch.token[index] = token
                batch.pos[index] = len(slot.held) + offset
                batch.n_seq_id[index] = 1
                batch.seq_id[index][0] = slot.number
                batch.logits[index] = offset == len(tokens) - 1
                index += 1
            slot.held += tokens
            lasts.append(index - 1)
        batch.n_tokens = index
        status = llama_cpp.llama_decode(self._context, batch) if index else 0
        assert status == 0, f"llama_decode ended with {status}"
        return lasts

    def _logits(self, index: int) -> NDArray[np.float32]:
        """(V,) logits behind a token of the last batch."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, index)
        return np.ctypeslib.as_array(pointer, (self._vocab_size,))


def _num_alike(one: Sequence[int], other: Sequence[int]) -> int:
    """With how many tokens both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


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
