"""OpenVINO GenAI's continuous batching: weights compressed to INT8 or INT4, its own 8-bit KV cache.

The model goes the vendor's own way: transformers, optimum-intel, NNCF, OpenVINO's files.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

from benchmarks.peers.serving import Options, serve
from benchmarks.peers.transformers import load_model

CACHE_GB = 1
BITS = {"int8": 8, "int4": 4}


@dataclass(slots=True)
class Running:
    """A request in the pipeline."""

    handle: Any  # the package names its type only in its stub
    num_left: int


class OpenVino:
    """One pipeline, driven step by step."""

    def __init__(self, options: Options) -> None:
        folder = options.work / options.precision
        if not folder.is_dir():
            write_model(options.checkpoint, options.work, folder, BITS[options.precision])
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.max_num_seqs = options.max_sequences
        scheduler.enable_prefix_caching = options.is_server  # by lines ours is off too
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": options.num_threads}
        )
        self._running: dict[int, Running] = {}
        self._ids = itertools.count()

    def add(self, key: int, prompt: Sequence[int], num_new: int) -> None:
        """The pipeline takes it along from its next step on."""
        settings = openvino_genai.GenerationConfig()
        settings.max_new_tokens = num_new
        settings.ignore_eos = True
        ids = openvino.Tensor(np.array([prompt], np.int64))
        handle = self._pipeline.add_request(next(self._ids), ids, settings)
        self._running[key] = Running(handle, num_new)

    def cancel(self, key: int) -> None:
        """Its place is free with the next step."""
        self._running.pop(key).handle.cancel()

    def step(self) -> list[tuple[int, int]]:
        """One step of the pipeline."""
        if self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        found = []
        for key, one in list(self._running.items()):
            while one.handle.can_read():
                for output in one.handle.read().values():
                    found += [(key, token) for token in output.generated_ids]
                    one.num_left -= len(output.generated_ids)
            if not one.num_left:
                del self._running[key]
        return found


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
