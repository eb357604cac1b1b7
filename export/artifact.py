"""The working folder that the stages hand on: model, tokenizer and manifest of one artifact.

Comes in: a checkpoint, or a folder that an earlier stage wrote. Goes out: the folder, one stage
further. It has the form of an exported version from the first stage on, so that a runner can load
it. Knows nothing of the model repository.
"""

import dataclasses
import importlib.metadata
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from export.blockwise import BLOCK_SIZE, BLOCK_SIZES, four_bit_inputs, quantize_blocks
from export.calibration import Calibration, record_rows
from export.checkpoint import Checkpoint
from export.compensation import Compensation
from export.graph import build_graph, num_candidates
from export.half import halve_model
from export.kv_cache import packed_inputs, quantize_cache
from export.model_file import OPSET, Model, Weights, read_model, write_model
from export.quantized import quantize_model
from export.rotated import rotate_model
from export.scaled import scale_model
from export.vocabulary import Vocabulary, find_vocabulary
from nanotriton.contract import (
    DECODE_GRAPH_FILE,
    DECODE_WEIGHTS_FILE,
    GRAPH_FILE,
    ORT_KV_DTYPES,
    PLAN_FILE,
    PROCESSOR,
    RANKS_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)
from nanotriton.errors import ArtifactError, InvalidRequest
from nanotriton.machine import this_machine
from nanotriton.manifest import DecodeGraph, Manifest, sha256_file

CANARY_PROMPT = "def f("
NUM_CANARY_CHARACTERS = 8
MODEL_FILES = (GRAPH_FILE, WEIGHTS_FILE, DECODE_GRAPH_FILE, DECODE_WEIGHTS_FILE)
ARTIFACT_FILES = (*MODEL_FILES, PLAN_FILE, TOKENIZER_FILE, RANKS_FILE)
QUANTIZED = {
    "fp16": "weights stored in 16 bits, computed with in float32",
    "int8": "8-bit linears and embeddings",
    "int4": "4-bit linears, embeddings of 8 bits, a head of both",
    "auto": "both graphs, the 4-bit one for decode steps of few rows",
}
ROUNDINGS = {
    "gptq": "what one channel loses the others make up for",
    "awq": "channels that meet large activations are scaled up",
    "nearest": "without calibration",
}
# Up to so many rows a step mostly reads weights, and fewer bytes win; above, 8-bit rows compute as
# fast and closer (GPT-2 124M, two threads on a quiet machine, int4 over int8: 0.50 at 1 row, 0.54
# at 2, 0.73 at 4, 0.88 at 8, 1.09 at 16; docs/ENGINE_SPEED.md).
MAX_DECODE_ROWS = 8
PACKAGES = ("nanotriton", "numpy", "onnx", "onnxruntime")


def write_artifact(
    checkpoint: Checkpoint, folder: Path, command: str, model: Model | None = None, **form: Any
) -> None:
    """Write the float32 artifact of a checkpoint; `command` is remembered in its manifest.

    Or that of another `model` of the checkpoint's function, which differs by `form`: fields of
    the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARTIFACT_FILES:
        (folder / name).unlink(missing_ok=True)
    write_model(model or build_graph(checkpoint), folder)
    for name, content in checkpoint.vocabulary.files.items():
        (folder / name).write_bytes(content)
    config = checkpoint.config
    manifest = Manifest(
        precision="fp32",
        num_layers=config.num_layers,
        num_heads=config.num_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        context=config.context,
        activation=config.activation,
        num_candidates=num_candidates(config),
        end_of_text=checkpoint.vocabulary.tokenizer.end_of_text,
        canary_prompt=_canary_prompt(checkpoint.vocabulary),
        checkpoint_sha256=checkpoint.sha256,
        tokenizer_sha256=checkpoint.vocabulary.sha256,
        files=hash_files(folder),
        parity={},
        versions={name: importlib.metadata.version(name) for name in PACKAGES}
        | {PROCESSOR: this_machine().cpu},
        created_by=command,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        infill=checkpoint.infill,
        infill_order=checkpoint.infill_order,
        opset=OPSET,
    )
    dataclasses.replace(manifest, **form).save(folder)


def quantize_artifact(
    folder: Path,
    precision: str,
    calibration: Calibration | None = None,
    rounding: str = "gptq",
    kv: str = "float32",
    *,
    block_size: int = BLOCK_SIZE,
) -> None:
    """Turn the float32 artifact in `folder` into fp16, int8, int4, or the last two (auto).

    Its KV cache becomes that of `kv`; int8 takes calibration, and also goes with precision fp32.
    4-bit weights are rounded to the nearest without `calibration`, else by `rounding`, "gptq",
    "awq" or "nearest", `block_size` of them with one scale; 8-bit ones always are. Raises
    ArtifactError when it isn't float32, or the calibration's text is missing or too short.
    """
    assert precision in ("fp32", *QUANTIZED), precision
    assert kv in ORT_KV_DTYPES, kv
    assert rounding in ROUNDINGS, rounding
    assert block_size in BLOCK_SIZES, block_size
    rounding = _rounding(precision, calibration, rounding)
    manifest = Manifest.load(folder)
    if manifest.precision != "fp32":
        raise ArtifactError(
            f"{folder} holds a model of precision {manifest.precision}, only fp32 can be "
            "quantized: run `python -m export graph CHECKPOINT --out WORK` again"
        )
    if kv == "int8" and calibration is None:
        raise ArtifactError(
            "a KV cache of int8 has scales that come from calibration: give a text for it, or take "
            "--kv float32"
        )
    if rounding in ("", "nearest") and kv == "float32":
        calibration = None  # nobody would read it
    windows = calibration.windows(find_vocabulary(folder), manifest.context) if calibration else []
    decode_graph = None
    with (
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        tempfile.TemporaryDirectory(dir=folder) as recorded,
    ):
        new = Path(temporary)
        # One turn for both graphs: they read and write the same keys and values.
        model = read_model(folder)
        model = model if precision in ("fp32", "fp16") else rotate_model(model)
        refine = rows = None
        if calibration:
            wanted = four_bit_inputs(model) if rounding in ("gptq", "awq") else {}
            wanted |= packed_inputs(model) if kv == "int8" else {}
            rows = record_rows(model, wanted, windows, Path(recorded))
            model = quantize_cache(model, rows) if kv == "int8" else model
            refine = Compensation(rows, calibration.progress) if rounding == "gptq" else None
        scaled = scale_model(model, rows, block_size) if rows and rounding == "awq" else model
        four_bit = partial(quantize_blocks, scaled, refine, block_size)
        main = four_bit() if precision == "int4" else _EIGHT_OR_MORE[precision](model)
        write_model(main, new)
        if precision == "auto":
            decode_graph = _write_decode_graph(four_bit(), new)
        for path in new.iterdir():
            path.replace(folder / path.name)
    dataclasses.replace(
        manifest,
        precision=precision,
        kv_dtype=kv,
        files=hash_files(folder),
        parity={},
        decode_graph=decode_graph,
        calibration_tokens=sum(map(len, windows)),
        calibration_sha256=calibration.sha256 if calibration else "",
        rounding=rounding,
    ).save(folder)


def _rounding(precision: str, calibration: Calibration | None, rounding: str) -> str:
    """How 4-bit weights are rounded; "" where there are none."""
    if precision not in ("int4", "auto"):
        return ""
    return rounding if calibration else "nearest"


# The graph of model.onnx, of int4 excepted.
_EIGHT_OR_MORE: dict[str, Callable[[Model], Model]] = {
    "fp32": lambda model: model,
    "fp16": halve_model,
    "int8": quantize_model,
    "auto": quantize_model,
}


def _write_decode_graph(model: Model, folder: Path) -> DecodeGraph:
    """The 4-bit graph beside the 8-bit one in `folder`, whose embeddings it shares."""
    shared = read_model(folder).weights
    assert isinstance(shared, Weights)
    write_model(model, folder, DECODE_GRAPH_FILE, shared)
    return DecodeGraph(DECODE_GRAPH_FILE, "int4", MAX_DECODE_ROWS)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless the folder's files are those that its manifest names."""
    if (found := hash_files(folder)) != manifest.files:
        wrong = sorted(
            name
            for name in found.keys() | manifest.files.keys()
            if found.get(name) != manifest.files.get(name)
        )
        raise ArtifactError(
            f"{folder} has {', '.join(wrong)} changed since its manifest was written: run the "
            "graph stage again"
        )


def hash_files(folder: Path) -> dict[str, str]:
    return {
        name: sha256_file(folder / name) for name in ARTIFACT_FILES if (folder / name).is_file()
    }


def _canary_prompt(vocabulary: Vocabulary) -> str:
    """A short prompt that the model can read, for warm-up and for the first request."""
    try:
        vocabulary.tokenizer.encode(CANARY_PROMPT)
    except InvalidRequest:
        return vocabulary.tokenizer.decode(
            range(min(NUM_CANARY_CHARACTERS, vocabulary.tokenizer.num_tokens))
        )
    return CANARY_PROMPT
