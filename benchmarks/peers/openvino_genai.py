"""OpenVINO GenAI's continuous batching: weights compressed to INT8 or INT4, its own 8-bit KV cache.

The model goes the vendor's own way: transformers, optimum-intel, NNCF, OpenVINO's files.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import openvino
import openvino_genai
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

from benchmarks.peers.serving import Options, serve
from benchmarks.peers.transformers import load_model

CACHE_GB = 1
BITS = {"int8": 8, "int4": 4}


class OpenVino:
    """One pipeline, driven step by step."""

    def __init__(self, options: Options) -> None:
        folder = options.work / options.precision
        if not folder.is_dir():
            write_model(options.checkpoint, options.work, folder, BITS[options.precision])
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.max_num_seqs = options.max_sequences
        scheduler.enable_prefix_caching = False  # prompts are distinct, and ours is off
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": options.num_threads}
        )
        self._num_requests = 0

    def generate(
        self, prompts: Sequence[Sequence[int]], num_new: int, on_first: Callable[[], None]
    ) -> list[list[int]]:
        """All prompts are sent at once, and the pipeline is stepped until all are answered."""
        settings = openvino_genai.GenerationConfig()
        settings.max_new_tokens = num_new
        settings.ignore_eos = True
        handles = []
        for prompt in prompts:
            ids = openvino.Tensor(np.array([prompt], np.int64))
            handles.append(self._pipeline.add_request(self._num_requests, ids, settings))
            self._num_requests += 1
        tokens: list[list[int]] = [[] for _ in prompts]
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
            for number, handle in enumerate(handles):
                while handle.can_read():
                    if not any(tokens):
                        on_first()
                    for output in handle.read().values():
                        tokens[number] += output.generated_ids
        return tokens


def write_model(checkpoint: Path, work: Path, folder: Path, bits: int) -> None:
    """OpenVINO's files with compressed weights, in optimum-intel's own default manner."""
    plain = work / "transformers"
    load_model(checkpoint).save_pretrained(plain)
    model = OVModelForCausalLM.from_pretrained(
        plain, export=True, compile=False, quantization_config=OVWeightQuantizationConfig(bits=bits)
    )
    model.save_pretrained(folder)


if __name__ == "__main__":
    packages = ("openvino", "openvino-genai", "optimum-intel", "nncf")
    sys.exit(serve(OpenVino, packages))
