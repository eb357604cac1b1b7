"""A model repository in, one model.tar.gz out: what SageMaker unpacks, and a backup of the models.

It holds every model with the newest exported version alone, at the archive's top: unpacked in a
folder, that folder is a repository. Left out is what belongs to one machine (tuned.json, caches).
The same repository gives the same bytes, so that a store knows a new one by its hash. Knows nothing
of clouds.
"""

import gzip
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from export.artifact import check_files
from export.repository import MODEL_CONFIG, locked
from nanotriton.contract import ENGINE_MODEL
from nanotriton.errors import ArtifactError
from nanotriton.manifest import Manifest, check_seal, newest_version

_OF_ONE_MACHINE = ("__pycache__", "tuned.json")
_LEVEL = 1  # weights get no smaller by more


def write_archive(repository: Path, target: Path) -> Path:
    """Write the archive, whole or not at all; returns the version's folder that is in it.

    Raises ManifestError and ArtifactError for a repository without a version, or with one that is
    not as it was exported.
    """
    with locked(repository):
        version = newest_version(repository)
        check_seal(version)
        check_files(version, Manifest.load(version))
        members = [*_members(repository, version)]
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with (
                fresh.open("xb") as file,
                gzip.GzipFile("", "wb", _LEVEL, file, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w") as archive,
            ):
                for path in members:
                    name = str(path.relative_to(repository))
                    archive.add(path, name, recursive=False, filter=_nameless)
            fresh.replace(target)
        finally:
            fresh.unlink(missing_ok=True)
    return version


def _members(repository: Path, version: Path) -> Iterator[Path]:
    """Folders before what is in them; a folder without files is a version too (ensembles)."""
    models = sorted(path.parent for path in repository.glob(f"*/{MODEL_CONFIG}"))
    for model in models:
        yield model
        for path in sorted(model.rglob("*")):
            is_other = model.name == ENGINE_MODEL and _is_other_version(path, model, version)
            if is_other or any(word in _OF_ONE_MACHINE for word in path.parts):
                continue
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ArtifactError(f"{path} is no file or folder: put the file itself there")
            yield path


def _is_other_version(path: Path, model: Path, version: Path) -> bool:
    top = path.relative_to(model).parts[0]
    return (model / top).is_dir() and top != version.name


def _nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the time, the user and the rights that it has here."""
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755 if member.isdir() else 0o644
    return member
