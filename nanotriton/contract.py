"""What the stages agree on: file names, tensor names, the graph's axes, the manifest.

Comes in: nothing. Goes out: constants, and `Manifest`, the description that travels with every
exported model. Knows nothing of how any of it is computed.

Axis letters, fixed for the whole project: B batch, T tokens, V vocabulary, K candidates,
L layers, H heads, D head dimension, S slots, M maximum sequence length, R rows.
"""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nanotriton.errors import ManifestError

Part = TypeVar("Part", bound="DecodeGraph | PlanTarget")

FORMAT_VERSION = 3  # the graphs of 1 and 2 take no prompt chunk beside decode rows

# Files of one exported version, <repository>/gpt/<version>/.
ENGINE_MODEL = "gpt"
MANIFEST_FILE = "manifest.json"
GRAPH_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
DECODE_GRAPH_FILE = "model.int4.onnx"
DECODE_WEIGHTS_FILE = "model.int4.onnx.data"
PLAN_FILE = "model.plan"
KV_LAYOUT = "L,2,S,H,M,D"  # axes of the engine's cache
TOKENIZER_FILE = "tokenizer.json"
RANKS_FILE = "tokenizer.tiktoken"

# What an exported version may keep keys and values in, and the bytes that a number takes.
KV_DTYPES = {"float32": 4, "float16": 2, "int8": 1}
ORT_KV_DTYPES = ("float32", "int8")  # the rest is TensorRT's

# Tensors of the doors (completion, completion_stream) that people use.
TEXT_INPUT = "text_input"
SUFFIX = "suffix"  # optional: the text after the cursor
TEXT_OUTPUT = "text_output"
FINISH_REASON = "finish_reason"
PROMPT_TOKENS = "prompt_tokens"
COMPLETION_TOKENS = "completion_tokens"
LOGPROBS = "output_logprobs"  # a JSON text, empty when nobody asked
STREAM = "stream"

# The ensemble `score`: its models, and its tensors besides those of its graph.
SCORE_MODEL = "score"
SCORE_TOKENS_MODEL = "score_tokens"
PLAN_MODEL = "gpt_plan"  # the graph's plan, served by Triton's own TensorRT backend
SCORE_GRAPH_MODEL = "gpt_graph"  # the same graph on the CPU
CONTINUATION = "continuation"
NUM_TOKENS = "num_tokens"  # (B, 1) INT32, tokens of the continuation

# Tensors between the ensemble's steps: B rows padded on the right, each with its length.
INPUT_IDS = "input_ids"
INPUT_LENGTHS = "input_lengths"
OUTPUT_IDS = "output_ids"
TEXT_BYTES = "text_bytes"

# The sampling settings: optional inputs of both doors and of `gpt`, name to Triton data type.
# Their ranges and defaults stand in nanotriton.engine.request.Settings.
SETTINGS = {
    "max_tokens": "INT32",
    "temperature": "FP32",
    "top_k": "INT32",
    "top_p": "FP32",
    "min_p": "FP32",
    "repetition_penalty": "FP32",
    "frequency_penalty": "FP32",
    "presence_penalty": "FP32",
    "logit_bias": "BYTES",
    "seed": "INT64",
    "stop": "BYTES",
    "stop_at": "BYTES",
    "truncate": "BYTES",
    "ignore_eos": "BOOL",
    "logprobs": "INT32",
    "priority": "INT32",
    "timeout_ms": "INT32",
    "user": "BYTES",
}

# Inputs and outputs of model.onnx in the ONNX Runtime dialect; export.graph holds the recipe.
# A call takes N tokens: a chunk of T tokens of one sequence, then one token of each of B others.
GRAPH_INPUT_IDS = "input_ids"  # (N,) int64
GRAPH_POSITION_IDS = "position_ids"  # (N,) int64
GRAPH_ROWS = "rows"  # (R,) int64, which of the N tokens reach the head
GRAPH_ATTENTION_ROWS = "attention_rows"  # (N,) int64, each token's row in attended chunk ++ decode
# Of the decode part; the chunk's own have the names that `chunk_name` gives, and B = 1. A part that
# a call has not attends one token over a cache of one position, and nobody reads the result.
GRAPH_ATTENDED = "attended"  # (B, 1) int64, which of the N tokens it attends; the chunk's (1, T)
GRAPH_SEQLENS_K = "seqlens_k"  # (B,) int32, tokens of each row after this call, less one
GRAPH_TOTAL_LEN = "total_len"  # (1,) int32, the largest of those totals
GRAPH_TOP_LOGITS = "top_v"  # (R, K) float32, sorted, largest first
GRAPH_TOP_TOKENS = "top_i"  # (R, K) int64
GRAPH_LSE = "lse"  # (R,) float32, log-sum-exp over all V logits
GRAPH_LOGITS = "logits"  # (R, V) float32, only computed into memory when it is bound

# Further inputs and outputs of the TensorRT dialect, where a row may be any of a batch's; the rest
# are those above (export.dialect).
GRAPH_WRITE_INDICES = "write_indices"  # (B,) int64, tokens the slot holds: new ones come behind
GRAPH_PLACES = "places"  # (B, C) int64, which tokens of each row reach the head
GRAPH_TARGETS = "targets"  # (B, C) int64, the token to score behind each of them; -1 is none
GRAPH_LOGPROBS = "token_logprobs"  # (B, C) float32, log of its probability; 0 for none
GRAPH_RANKS = "token_ranks"  # (B, C) int64, how many tokens are likelier; 0 for none
GRAPH_LOGPROB = "logprob"  # (B, 1) float32, the sum of a row's


def chunk_name(name: str) -> str:
    """What an input or output of the decode part is called for the chunk."""
    return f"chunk_{name}"


def past_name(layer: int, kind: str) -> str:
    """Name of the KV cache that enters layer `layer`; `kind` is "k" or "v"; (B, H, M, D)."""
    return f"past_{kind}_{layer}"


def present_name(layer: int, kind: str) -> str:
    """Name of the KV cache that leaves layer `layer`, bound to the memory of `past_name`."""
    return f"present_{kind}_{layer}"


@dataclass(frozen=True, slots=True)
class DecodeGraph:
    """A second graph over the same KV cache, for steps of one token for 1 to `max_rows` rows.

    `file` is among the manifest's files, and its weights lie in `file`.data.
    """

    file: str
    precision: str
    max_rows: int

    def __post_init__(self) -> None:
        is_count = type(self.max_rows) is int and self.max_rows > 0
        if not is_count or not isinstance(self.file, str) or not isinstance(self.precision, str):
            raise ManifestError(
                f"the manifest's decode_graph is {self.file!r} of precision {self.precision!r} for "
                f"{self.max_rows!r} rows, it needs two names and a whole number from 1 up: export "
                "the model again"
            )


@dataclass(frozen=True, slots=True)
class PlanTarget:
    """What a TensorRT plan was built for, and so what it runs on: nothing else.

    `tensorrt_version` is that of the builder, `compute_capability` the GPU's without a dot ("80").
    Its two optimization profiles take prompts of one sequence, 1 to `prefill_chunk` tokens, and
    decode steps of 1 to `max_batch` sequences.
    """

    tensorrt_version: str
    compute_capability: str
    prefill_chunk: int
    max_batch: int

    def __post_init__(self) -> None:
        counts = (self.prefill_chunk, self.max_batch)
        words = (self.tensorrt_version, self.compute_capability)
        is_count = all(type(count) is int and count > 0 for count in counts)
        if not is_count or not all(isinstance(word, str) for word in words):
            raise ManifestError(
                f"the manifest's plan is for TensorRT {self.tensorrt_version!r} on SM "
                f"{self.compute_capability!r} with prefill_chunk {self.prefill_chunk!r} and "
                f"max_batch {self.max_batch!r}, it needs two texts and two whole numbers from 1 "
                "up: build the plan again"
            )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one exported version is; written by export, checked by whoever loads it.

    `vocab_size` is the graph's V: padding of the checkpoint's vocabulary is cut off by export, so
    it equals the tokenizer's number of tokens. `infill` says whether the model was trained to fill
    in the middle, and so whether a request may have a suffix, and `infill_order` whether the prompt
    then begins with the prefix ("psm") or the suffix ("spm"); a manifest that doesn't say it is of
    a model that may not. `files` maps each file's name to its SHA-256. model.onnx answers all steps
    that `decode_graph`, if there is one, doesn't; of the runner "trt" model.plan does, which fits
    what `plan` names alone. 4-bit weights and the scales of an int8 cache come from
    `calibration_tokens` tokens (0: none) of the text with `calibration_sha256`.
    """

    precision: str
    num_layers: int
    num_heads: int
    head_dim: int
    vocab_size: int
    context: int
    activation: str
    num_candidates: int
    end_of_text: int | None
    canary_prompt: str
    checkpoint_sha256: str
    tokenizer_sha256: str
    files: dict[str, str]
    parity: dict[str, float]
    versions: dict[str, str]
    created_by: str
    created_at: str
    infill: bool = False
    infill_order: str = "psm"
    runner: str = "ort"
    opset: int = 20
    kv_dtype: str = "float32"
    kv_layout: str = KV_LAYOUT
    decode_graph: DecodeGraph | None = None
    calibration_tokens: int = 0
    calibration_sha256: str = ""
    plan: PlanTarget | None = None
    format_version: int = field(default=FORMAT_VERSION)

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read `folder`/manifest.json; raises ManifestError in one sentence that says the mend."""
        path = folder / MANIFEST_FILE
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ManifestError(
                f"{folder} holds no {MANIFEST_FILE}: run `python -m export all CHECKPOINT "
                f"--repository {folder.parent.parent}` first"
            ) from None
        except (OSError, ValueError) as error:
            raise ManifestError(f"{path} can't be read ({error}): export the model again") from None
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise ManifestError(
                f"{path} has format_version {version}, this nanotriton reads {FORMAT_VERSION}: "
                "export the model again, or install the nanotriton that wrote it"
            )
        known = {item.name for item in dataclasses.fields(cls)}
        required = {
            item.name
            for item in dataclasses.fields(cls)
            if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        }
        if wrong := sorted((set(values) - known) | (required - set(values))):
            raise ManifestError(
                f"{path} has missing or unknown keys {', '.join(wrong)}: export the model again"
            )
        manifest = cls(**values)
        if manifest.kv_dtype not in KV_DTYPES:
            raise ManifestError(
                f"{path} has kv_dtype {manifest.kv_dtype!r}, this nanotriton reads "
                f"{' and '.join(KV_DTYPES)}: export the model again"
            )
        return dataclasses.replace(
            manifest,
            decode_graph=_read_decode_graph(path, manifest),
            plan=_read_part(path, "plan", manifest.plan, PlanTarget),
        )

    @property
    def slot_bytes(self) -> int:
        """What a KV slot takes: M is one position longer than the context (see runners.base)."""
        numbers = 2 * self.num_layers * self.num_heads * (self.context + 1) * self.head_dim
        return numbers * KV_DTYPES[self.kv_dtype]

    def save(self, folder: Path) -> None:
        """Write `folder`/manifest.json."""
        text = json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def _read_decode_graph(path: Path, manifest: Manifest) -> DecodeGraph | None:
    graph = _read_part(path, "decode_graph", manifest.decode_graph, DecodeGraph)
    if graph is not None and graph.file not in manifest.files:
        raise ManifestError(
            f"{path} has the decode_graph {graph.file!r}, which is not among its files: export "
            "the model again"
        )
    return graph


def _read_part(path: Path, key: str, values: Any, kind: type[Part]) -> Part | None:
    """A part of the manifest from what JSON has of it, none from null."""
    if values is None:
        return None
    try:
        return kind(**values)
    except TypeError:
        names = [item.name for item in dataclasses.fields(kind)]
        raise ManifestError(
            f"{path} has {key} {values!r}, it needs {', '.join(names[:-1])} and {names[-1]}: "
            "export the model again"
        ) from None


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def versions_of(repository: Path) -> list[int]:
    """Exported versions of the engine model in a repository, ascending."""
    folder = repository / ENGINE_MODEL
    if not folder.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in os.scandir(folder)
        if entry.name.isdecimal() and (Path(entry.path) / MANIFEST_FILE).is_file()
    )


def newest_version(repository: Path) -> Path:
    """Folder of the newest exported version; raises ManifestError when nothing was exported."""
    if versions := versions_of(repository):
        return repository / ENGINE_MODEL / str(versions[-1])
    raise ManifestError(
        f"{repository / ENGINE_MODEL} holds no exported version: run `python -m export all "
        f"CHECKPOINT --repository {repository}` first"
    )
