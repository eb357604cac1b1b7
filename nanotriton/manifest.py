"""What an exported version says of itself, and which versions a repository has.

Comes in: `manifest.json`, or what export knows. Goes out: `Manifest`, which refuses what it can't
read, and SHA-256 of files. Knows nothing of runners, nor of whether the files fit (doctor does).
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nanotriton.contract import ENGINE_MODEL, KV_DTYPES, KV_LAYOUT, MANIFEST_FILE
from nanotriton.errors import ManifestError

Part = TypeVar("Part", bound="DecodeGraph | PlanTarget")

FORMAT_VERSION = 3  # the graphs of 1 and 2 take no prompt chunk beside decode rows
SEAL = "seal"  # the manifest's key for the SHA-256 of its other values


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
    what `plan` names alone. 4-bit weights, rounded by `rounding` ("gptq", "awq" or "nearest"), and
    the scales of an int8 cache come from `calibration_tokens` tokens (0: none) of the text with
    `calibration_sha256`.
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
    rounding: str = ""
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
        if version is not None:
            values.pop(SEAL, None)  # doctor's and publish's to check
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
        """Write `folder`/manifest.json, sealed."""
        values = dataclasses.asdict(self)
        text = json.dumps(values | {SEAL: _seal(values)}, indent=2, ensure_ascii=False)
        (folder / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def check_seal(folder: Path) -> None:
    """Raise ManifestError when `folder`/manifest.json was edited by hand since it was written.

    One that an older nanotriton wrote has no seal, and passes.
    """
    path = folder / MANIFEST_FILE
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    seal = values.pop(SEAL, None)
    if seal is not None and seal != _seal(values):
        raise ManifestError(
            f"{path} was edited by hand since export wrote it (its seal differs), so its figures "
            "prove nothing: export the model again"
        )


def _seal(values: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest's values, whatever their order."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


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


def sha256_files(paths: Iterable[Path]) -> str:
    """One SHA-256 of several files, in their order."""
    return hashlib.sha256("".join(map(sha256_file, paths)).encode()).hexdigest()


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
