"""Holds an exported repository and this machine against each other before anything starts.

Comes in: a repository's folder. Goes out: a list of `Finding`, each in plain words with its mend.
It changes nothing, and loads no weights.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from nanotriton.contract import (
    GRAPH_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    Manifest,
    newest_version,
    sha256_file,
    versions_of,
)
from nanotriton.errors import NanotritonError
from nanotriton.infill import Markers
from nanotriton.installation import find_installation
from nanotriton.prompt import encode_prompt
from nanotriton.runners.cuda import find_gpu
from nanotriton.runners.graphs import ORT_ERRORS
from nanotriton.runners.plan import check_here
from nanotriton.tokenizer import load_tokenizer

MODELS = ("preprocessing", "gpt", "postprocessing", "completion", "completion_stream")
MODEL_SCRIPT = "model.py"
DEFAULT_SLOTS = 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is, what was seen, and whether it will do."""

    subject: str
    seen: str
    is_good: bool


def examine(repository: Path) -> list[Finding]:
    """Look at everything that serving needs; never raises for what it finds."""
    return list(_checks(repository))


def _checks(repository: Path) -> Iterator[Finding]:
    yield _look("repository", lambda: _check_models(repository))
    yield _look("tritonserver", _check_server)
    yield _look("versions", lambda: _check_versions(repository))
    try:
        folder = newest_version(repository)
        manifest = Manifest.load(folder)
    except NanotritonError as error:
        yield Finding("manifest", str(error), False)
        return
    shape = f"{manifest.num_layers} layers, {manifest.num_heads} heads of {manifest.head_dim}"
    words = f"{manifest.precision}, {shape}, vocabulary {manifest.vocab_size}"
    infill = f"infill in the order {manifest.infill_order}" if manifest.infill else "no infill"
    words += f", context {manifest.context}, {infill}"
    if decode := manifest.decode_graph:
        words += f", {decode.precision} for decode steps of up to {decode.max_rows} rows"
    yield Finding("manifest", f"version {folder.name}: {words}", True)
    yield _look("files", lambda: _check_files(folder, manifest))
    yield _look("tokenizer", lambda: _check_tokenizer(folder, manifest))
    yield _look("runtime", lambda: _check_runtime(folder, manifest))
    yield _look("memory", lambda: _check_memory(folder, manifest))


def _look(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, check(), True)
    except (NanotritonError, OSError) as error:
        return Finding(subject, str(error), False)


def _check_models(repository: Path) -> str:
    missing = [name for name in MODELS if not (repository / name / "config.pbtxt").is_file()]
    if missing:
        raise NanotritonError(
            f"{repository} lacks {', '.join(missing)}: export into it again, which lays it out"
        )
    return f"{len(MODELS)} models in {repository}"


def _check_server() -> str:
    with tempfile.TemporaryDirectory() as scratch:
        return find_installation(Path(scratch)).command[0]


def _check_versions(repository: Path) -> str:
    if not (versions := versions_of(repository)):
        newest_version(repository)  # raises with the mend
    return f"exported: {', '.join(map(str, versions))}; the newest is served"


def _check_files(folder: Path, manifest: Manifest) -> str:
    if not (folder / MODEL_SCRIPT).is_file():
        raise NanotritonError(f"{folder / MODEL_SCRIPT} is missing: export the model again")
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise NanotritonError(f"{path} is missing: export the model again")
        if sha256_file(path) != expected:
            raise NanotritonError(
                f"{path} is not the file that {MANIFEST_FILE} describes (its SHA-256 differs): "
                "export the model again"
            )
    size = sum((folder / name).stat().st_size for name in manifest.files)
    return f"{len(manifest.files)} files, {size / 1e6:.1f} MB, as {MANIFEST_FILE} describes them"


def _check_tokenizer(folder: Path, manifest: Manifest) -> str:
    tokenizer = load_tokenizer(folder)
    if tokenizer.num_tokens != manifest.vocab_size:
        raise NanotritonError(
            f"the tokenizer has {tokenizer.num_tokens} tokens, the model's vocabulary is "
            f"{manifest.vocab_size}: export the model with the tokenizer it was trained with"
        )
    if manifest.infill:
        Markers.of(tokenizer.special_tokens)  # raises with the mend
    ids = encode_prompt(manifest.canary_prompt, tokenizer, manifest.context, 1, "none")
    return f"{tokenizer.num_tokens} tokens; {manifest.canary_prompt!r} is {len(ids)} of them"


def _check_runtime(folder: Path, manifest: Manifest) -> str:
    if manifest.runner == "trt":
        return _check_plan(folder, manifest)
    options = onnxruntime.SessionOptions()
    # Optimisation off: the question is only whether this runtime reads the graph.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    files = [GRAPH_FILE, *([manifest.decode_graph.file] if manifest.decode_graph else [])]
    for name in files:
        try:
            onnxruntime.InferenceSession(folder / name, options, ["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            raise NanotritonError(
                f"onnxruntime {onnxruntime.__version__} does not load {name} "
                f"({str(error).splitlines()[0]}): install a newer one, or export again"
            ) from None
    return f"onnxruntime {onnxruntime.__version__} loads {' and '.join(files)}"


def _check_plan(folder: Path, manifest: Manifest) -> str:
    """That TensorRT and the GPU are those of the plan; it is not opened, which takes memory."""
    if manifest.plan is None:
        raise NanotritonError(
            f"{folder} has no plan for its runner trt: run `python -m export plan` again"
        )
    gpu = find_gpu()
    trt = check_here(folder / PLAN_FILE, manifest.plan, gpu)
    return f"TensorRT {trt.__version__} takes {PLAN_FILE} on {gpu.name}"


def _check_memory(folder: Path, manifest: Manifest) -> str:
    needed = manifest.slot_bytes * DEFAULT_SLOTS + sum(
        (folder / name).stat().st_size for name in manifest.files
    )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    seen = (
        f"weights and {DEFAULT_SLOTS} full KV slots of {manifest.slot_bytes / 1e6:.1f} MB take "
        f"{needed / 1e9:.2f} GB, this machine has {total / 1e9:.1f} GB"
    )
    if needed > total:
        raise NanotritonError(f"{seen}: lower max_slots in gpt/config.pbtxt")
    return seen
