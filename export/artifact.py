"""The working folder that the stages hand on: model, tokenizer and manifest of one artifact.

Comes in: a checkpoint, or a folder that an earlier stage wrote. Goes out: the folder, one stage
further. It has the form of an exported version from the first stage on, so that a runner can load
it. Knows nothing of the model repository.
"""

import dataclasses
import importlib.metadata
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from export.blockwise import Refine, four_bit_inputs, quantize_blocks
from export.calibration import Calibration, record_rows
from export.checkpoint import Checkpoint
from export.compensation import Compensation
from export.graph import build_graph, num_candidates
from export.model_file import OPSET, Model, Weights, read_model, write_model
from export.quantized import quantize_model
from export.rotated import rotate_model
from export.vocabulary import Vocabulary, find_vocabulary
from nanotriton.contract import (
    DECODE_GRAPH_FILE,
    DECODE_WEIGHTS_FILE,
    GRAPH_FILE,
    RANKS_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    DecodeGraph,
    Manifest,
    sha256_file,
)
from nanotriton.errors import ArtifactError, InvalidRequest

CANARY_PROMPT = "def f("
NUM_CANARY_CHARACTERS = 8
MODEL_FILES = (GRAPH_FILE, WEIGHTS_FILE, DECODE_GRAPH_FILE, DECODE_WEIGHTS_FILE)
ARTIFACT_FILES = (*MODEL_FILES, TOKENIZER_FILE, RANKS_FILE)
QUANTIZED = {
    "int8": "8-bit linears",
    "int4": "linears of 4 bits, attention and head of 8",
    "auto": "both graphs, the 4-bit one for decode steps of few rows",
}
# Up to so many rows a step only reads weights, and fewer bytes win; above, 8-bit rows compute as
# fast (GPT-2 124M, processor time by rows, int4 over int8: 0.61 at 1, 0.69 at 2, 0.88 at 4, 0.97 at
# 6, 1.14 at 16; docs/ENGINE_SPEED.md).
MAX_DECODE_ROWS = 4
PACKAGES = ("nanotriton", "numpy", "onnx", "onnxruntime")


def write_artifact(checkpoint: Checkpoint, folder: Path, command: str) -> None:
    """Write the float32 artifact of a checkpoint; `command` is remembered in its manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ARTIFACT_FILES:
        (folder / name).unlink(missing_ok=True)
    write_model(build_graph(checkpoint), folder)
    for name, content in checkpoint.vocabulary.files.items():
        (folder / name).write_bytes(content)
    config = checkpoint.config
    Manifest(
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
        files=_hash_files(folder),
        parity={},
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
        created_by=command,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        infill=checkpoint.infill,
        infill_order=checkpoint.infill_order,
        opset=OPSET,
    ).save(folder)


def quantize_artifact(folder: Path, precision: str, calibration: Calibration | None = None) -> None:
    """Turn the float32 artifact in `folder` into int8, int4, or both of them (auto).

    Without `calibration` the 4-bit weights are rounded plainly; 8-bit ones always are. Raises
    ArtifactError when it isn't float32, or the calibration's text is too short.
    """
    assert precision in QUANTIZED, precision
    manifest = Manifest.load(folder)
    if manifest.precision != "fp32":
        raise ArtifactError(
            f"{folder} holds a model of precision {manifest.precision}, only fp32 can be "
            "quantized: run `python -m export graph CHECKPOINT --out WORK` again"
        )
    if precision == "int8":
        calibration = None
    windows = calibration.windows(find_vocabulary(folder), manifest.context) if calibration else []
    decode_graph = None
    with (
        tempfile.TemporaryDirectory(dir=folder) as temporary,
        tempfile.TemporaryDirectory(dir=folder) as recorded,
    ):
        new = Path(temporary)
        # One turn for both graphs: they read and write the same keys and values.
        rotated = rotate_model(read_model(folder))
        refine = None
        if calibration:
            rows = record_rows(rotated, four_bit_inputs(rotated), windows, Path(recorded))
            refine = Compensation(rows, calibration.progress)
        quantized = quantize_blocks(rotated, refine) if precision == "int4" else None
        write_model(quantized or quantize_model(rotated), new)
        if precision == "auto":
            decode_graph = _write_decode_graph(rotated, new, refine)
        for path in new.iterdir():
            path.replace(folder / path.name)
    dataclasses.replace(
        manifest,
        precision=precision,
        files=_hash_files(folder),
        parity={},
        decode_graph=decode_graph,
        calibration_tokens=sum(map(len, windows)),
        calibration_sha256=calibration.sha256 if calibration else "",
    ).save(folder)


def _write_decode_graph(rotated: Model, folder: Path, refine: Refine | None) -> DecodeGraph:
    """The 4-bit graph beside the 8-bit one in `folder`, whose embeddings it shares."""
    shared = read_model(folder).weights
    assert isinstance(shared, Weights)
    write_model(quantize_blocks(rotated, refine), folder, DECODE_GRAPH_FILE, shared)
    return DecodeGraph(DECODE_GRAPH_FILE, "int4", MAX_DECODE_ROWS)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise ArtifactError unless the folder's files are those that its manifest names."""
    if (found := _hash_files(folder)) != manifest.files:
        wrong = sorted(
            name
            for name in found.keys() | manifest.files.keys()
            if found.get(name) != manifest.files.get(name)
        )
        raise ArtifactError(
            f"{folder} has {', '.join(wrong)} changed since its manifest was written: run the "
            "graph stage again"
        )


def _hash_files(folder: Path) -> dict[str, str]:
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
