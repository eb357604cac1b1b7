"""Paths in, versions that can be run out: what `compare` and `verify` measure.

A path is an artifact's folder, a version's folder, a repository (its newest version) or a
checkpoint, which is exported as float32 into a temporary folder. A version with two graphs is two
contenders, for each answers steps of its own. Knows nothing of what is measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.artifact import check_files, write_artifact
from export.calibration import check_unseen
from export.checkpoint import load_checkpoint
from export.dialect_runner import DialectRunner
from nanotriton.contract import ENGINE_MODEL, GRAPH_FILE, MANIFEST_FILE
from nanotriton.errors import ArtifactError
from nanotriton.manifest import Manifest, newest_version
from nanotriton.runners.base import Runner
from nanotriton.runners.graphs import GraphUse
from nanotriton.runners.ort import OrtRunner
from nanotriton.runners.trt import TrtRunner


@dataclass(frozen=True, slots=True)
class Contender:
    """One graph of a version, under a name of its own."""

    name: str
    folder: Path
    manifest: Manifest
    graph_file: str
    precision: str

    @property
    def size_bytes(self) -> int:
        """Of all files of the version, the tokenizer's among them."""
        return sum((self.folder / name).stat().st_size for name in self.manifest.files)

    def open(self, num_slots: int, num_threads: int) -> Runner:
        """A fresh runner of this graph alone; a plan's graph without a plan runs on the CPU."""
        if self.manifest.runner == "trt":
            if self.manifest.plan is not None:
                return TrtRunner(self.folder, num_slots)
            return DialectRunner(self.folder, self.manifest, num_slots, num_threads)
        use = GraphUse(only=self.graph_file)
        return OrtRunner(self.folder, num_slots, num_threads, use)


def find_contenders(path: Path, name: str, tokenizer: str | None, scratch: Path) -> list[Contender]:
    """What lies at a path, called `name`; checkpoints are exported into the empty folder `scratch`.

    Raises ArtifactError, also for files that are not those of their manifest.
    """
    folder = _find_folder(path, tokenizer, scratch)
    manifest = Manifest.load(folder)
    check_files(folder, manifest)
    decode = manifest.decode_graph
    if decode is None:
        return [Contender(name, folder, manifest, GRAPH_FILE, manifest.precision)]
    return [
        Contender(f"{name} ({precision})", folder, manifest, file, precision)
        for file, precision in ((GRAPH_FILE, "int8"), (decode.file, decode.precision))
    ]


def check_comparable(contenders: Sequence[Contender], text: str) -> None:
    """Raise ArtifactError unless all read the same tokens, and none was fitted to the text."""
    for one in contenders:
        check_unseen(one.manifest.calibration_sha256, text)
    first = contenders[0]
    for other in contenders[1:]:
        if other.manifest.tokenizer_sha256 != first.manifest.tokenizer_sha256:
            raise ArtifactError(
                f"{other.name} has another tokenizer than {first.name}: figures a token can't be "
                "compared; export both with the same --tokenizer"
            )


def _find_folder(path: Path, tokenizer: str | None, scratch: Path) -> Path:
    if (path / MANIFEST_FILE).is_file():
        return path
    if (path / ENGINE_MODEL).is_dir():
        return newest_version(path)
    write_artifact(load_checkpoint(path, tokenizer), scratch, "python -m export compare")
    return scratch
