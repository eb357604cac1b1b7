"""Holds an exported repository and this machine against each other before anything starts.

Comes in: what to serve and where. Goes out: a list of `Finding`, each in plain words with its mend.
It changes nothing, and loads no weights; what it asks of the machine is in `nanotriton.host`.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from nanotriton import host
from nanotriton.contract import GRAPH_FILE, MANIFEST_FILE, PLAN_FILE, RANKS_FILE, TOKENIZER_FILE
from nanotriton.errors import NanotritonError
from nanotriton.infill import Markers
from nanotriton.installation import find_installation
from nanotriton.machine import this_machine
from nanotriton.manifest import (
    Manifest,
    check_seal,
    newest_version,
    sha256_file,
    sha256_files,
    versions_of,
)
from nanotriton.prompt import encode_prompt
from nanotriton.runners.cuda import find_gpu
from nanotriton.runners.graphs import ORT_ERRORS, first_line
from nanotriton.runners.native import describe_attention
from nanotriton.runners.plan import check_here
from nanotriton.server import ServerOptions
from nanotriton.tokenizer import load_tokenizer
from nanotriton.tuned import read_tuned

MODELS = ("preprocessing", "gpt", "postprocessing", "completion", "completion_stream")
MODEL_SCRIPT = "model.py"
TOKENIZER_FILES = (TOKENIZER_FILE, RANKS_FILE)  # in the order in which export hashes them
DEFAULT_SLOTS = 32
NEWEST_OPSET = re.compile(r"domain ai\.onnx is till opset (\d+)")  # in ONNX Runtime's refusal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what it is, what was seen, and whether it will do."""

    subject: str
    seen: str
    is_good: bool


def examine(options: ServerOptions, checkpoint: Path | None = None) -> list[Finding]:
    """Look at everything that serving needs; never raises for what it finds.

    With a `checkpoint`, also whether it is the one that the newest version was made from.
    """
    return list(_checks(options, checkpoint))


def _checks(options: ServerOptions, checkpoint: Path | None) -> Iterator[Finding]:
    repository = options.repository
    yield _look("repository", lambda: _check_models(repository))
    yield _look("tritonserver", _check_server)
    yield _look("python", host.check_python)
    yield _look("ports", lambda: host.check_ports(options))
    yield _look("shared memory", host.check_shared_memory)
    yield _look("disk", host.check_disk)
    yield _look("versions", lambda: _check_versions(repository))
    try:
        folder = newest_version(repository)
        manifest = Manifest.load(folder)
    except NanotritonError as error:
        yield Finding("manifest", str(error), False)
        return
    yield Finding("manifest", f"version {folder.name}: {_describe(manifest)}", True)
    yield _look("seal", lambda: _check_seal(folder))
    yield _look("files", lambda: _check_files(folder, manifest))
    if checkpoint is not None:
        yield _look("checkpoint", lambda: _check_checkpoint(checkpoint, manifest))
    yield _look("tokenizer", lambda: _check_tokenizer(folder, manifest))
    yield _look("processor", lambda: host.check_processor(manifest))
    yield _look("runtime", lambda: _check_runtime(folder, manifest))
    if manifest.runner == "ort":
        yield Finding("attention", describe_attention(), True)
    yield _look("tuning", lambda: _check_tuning(folder))
    num_slots = int(options.engine.get("max_slots", DEFAULT_SLOTS))
    yield _look("memory", lambda: _check_memory(folder, manifest, num_slots))


def _describe(manifest: Manifest) -> str:
    words = (
        f"{manifest.precision}, {manifest.num_layers} layers, {manifest.num_heads} heads of "
        f"{manifest.head_dim}, vocabulary {manifest.vocab_size}, context {manifest.context}, "
    )
    words += f"infill in the order {manifest.infill_order}" if manifest.infill else "no infill"
    if decode := manifest.decode_graph:
        words += f", {decode.precision} for decode steps of up to {decode.max_rows} rows"
    if accepted := [name for name in manifest.parity if "accepted_" in name]:
        words += f", beyond its budget: {', '.join(accepted)}"
    return words


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


def _check_seal(folder: Path) -> str:
    check_seal(folder)
    return f"{MANIFEST_FILE} is as export wrote it"


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


def _check_checkpoint(path: Path, manifest: Manifest) -> str:
    files = [path]
    if path.is_dir():  # as `save_pretrained` writes it
        weights = sorted(path.glob("model-*-of-*.safetensors"))
        whole = path / "model.safetensors"
        files = [path / "config.json", *([whole] if whole.is_file() else weights)]
    found = sha256_files(files) if path.is_dir() else sha256_file(path)
    if found != manifest.checkpoint_sha256:
        raise NanotritonError(
            f"{path} is not what the version was made from (its SHA-256 differs): export it, or "
            "give the right one"
        )
    return f"the version was made from {path}"


def _check_tokenizer(folder: Path, manifest: Manifest) -> str:
    tokenizer = load_tokenizer(folder)
    names = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    content = b"".join((folder / name).read_bytes() for name in names)
    if hashlib.sha256(content).hexdigest() != manifest.tokenizer_sha256:
        raise NanotritonError(
            f"{' and '.join(names)} are not the tokenizer that the model was exported with (its "
            "SHA-256 differs): export the model again"
        )
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
    proved = manifest.versions.get("onnxruntime", "0")
    if _numbers(onnxruntime.__version__) < _numbers(proved):
        raise NanotritonError(
            f"onnxruntime is {onnxruntime.__version__}, the model was proved with {proved}: "
            f"install onnxruntime=={proved}, or export it again here"
        )
    options = onnxruntime.SessionOptions()
    # Optimisation off: the question is only whether this runtime reads the graph.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4  # what goes wrong is raised, and said once
    files = [GRAPH_FILE, *([manifest.decode_graph.file] if manifest.decode_graph else [])]
    for name in files:
        try:
            onnxruntime.InferenceSession(folder / name, options, ["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            newest = NEWEST_OPSET.search(str(error))  # behind a whole C++ signature
            why = f"it reads opsets up to {newest[1]}" if newest else first_line(error)
            raise NanotritonError(
                f"onnxruntime {onnxruntime.__version__} does not load {name} ({why}): install a "
                "newer one, or export again"
            ) from None
    return f"onnxruntime {onnxruntime.__version__} loads {' and '.join(files)}"


def _check_plan(folder: Path, manifest: Manifest) -> str:
    """That TensorRT and the GPU are those of the plan; it is not opened, which takes memory."""
    if manifest.plan is None:
        raise NanotritonError(
            f"{MANIFEST_FILE} names the runner trt and no plan: build one with "
            "`python -m export plan`"
        )
    trt = check_here(folder / PLAN_FILE, manifest.plan)
    return f"TensorRT {trt.__version__} takes {PLAN_FILE} on {find_gpu().name}"


def _numbers(version: str) -> list[int]:
    """The leading numbers of a version, to compare it by."""
    return [int(word) for word in re.findall(r"\d+", version)[:3]]


def _check_tuning(folder: Path) -> str:
    tuned = read_tuned(folder)
    if tuned is None:
        return "defaults; `nanotriton tune` measures what is faster on this machine"
    tuned.check(this_machine())
    return ", ".join(f"{name} {choice.value}" for name, choice in tuned.choices.items())


def _check_memory(folder: Path, manifest: Manifest, num_slots: int) -> str:
    needed = manifest.slot_bytes * num_slots + sum(
        (folder / name).stat().st_size for name in manifest.files
    )
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    seen = (
        f"weights and {num_slots} full KV slots of {manifest.slot_bytes / 1e6:.1f} MB take "
        f"{needed / 1e9:.2f} GB, this machine has {total / 1e9:.1f} GB"
    )
    if needed > total:
        raise NanotritonError(f"{seen}: lower max_slots, as by --engine max_slots=8")
    return seen
