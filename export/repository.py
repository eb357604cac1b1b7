"""A proved artifact in, a version folder of the model repository out.

Everything is written beside its place and swapped in at one instant, so a killed export leaves the
old version complete. Only one export writes to a repository at a time. Knows nothing of models.
"""

import dataclasses
import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from export.artifact import check_files
from export.swap import restore_folders, swap_folder
from nanotriton.contract import ENGINE_MODEL, KV_LAYOUT, PLAN_FILE
from nanotriton.errors import ArtifactError, ParityError
from nanotriton.manifest import Manifest, check_seal, versions_of
from nanotriton.runners.plan_header import is_same_version, servable_header

TEMPLATE = Path(__file__).resolve().parent.parent / "model_repository"
MODEL_SCRIPT = Path("1", "model.py")
MODEL_CONFIG = Path("config.pbtxt")
WARMED_UP_MODELS = ("preprocessing", "completion_stream")


def publish(
    work: Path,
    repository: Path,
    version: int | None,
    command: str,
    template: Path = TEMPLATE,
) -> Path:
    """Write `repository`/gpt/N/ from a working folder that passed parity; returns its path.

    N is `version`, or one more than the newest. Raises ParityError when parity was not run, and
    ArtifactError when files or manifest changed since, or another export is writing.
    """
    manifest = dataclasses.replace(Manifest.load(work), created_by=command)
    if not manifest.parity:
        raise ParityError(
            f"{work} has not passed parity: run `python -m export parity {work} CHECKPOINT`"
        )
    check_seal(work)
    check_files(work, manifest)
    if manifest.runner == "trt":
        check_plan(work, manifest)
    script = template / ENGINE_MODEL / MODEL_SCRIPT
    if not script.is_file():
        raise ArtifactError(f"{script} is missing, every version needs a copy of it: restore it")
    versions = repository / ENGINE_MODEL
    versions.mkdir(parents=True, exist_ok=True)
    with locked(versions):
        _clean(versions)
        target = versions / str(version or max(versions_of(repository), default=0) + 1)
        new = versions / f".{target.name}.tmp-{os.getpid()}"
        new.mkdir()
        try:
            for name in manifest.files:
                shutil.copyfile(work / name, new / name)
            shutil.copyfile(script, new / script.name)
            manifest.save(new)
            _copy_static_files(template, repository)
            _write_warmup(repository, manifest.canary_prompt)
            swap_folder(new, target)
        finally:
            shutil.rmtree(new, ignore_errors=True)  # there only when something failed
    return target


def check_writable(repository: Path) -> None:
    """Raise ArtifactError when a version can't be written there; the folder may not exist yet."""
    versions = repository / ENGINE_MODEL
    there = next(path for path in (versions, *versions.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ArtifactError(f"{there} is no folder: choose another --repository")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArtifactError(
            f"{there} can't be written: choose another --repository, or get the right to"
        )


def check_plan(work: Path, manifest: Manifest) -> None:
    """Raise ArtifactError or RunnerError unless the engine can serve the plan in a folder."""
    if manifest.kv_layout != KV_LAYOUT:
        raise ArtifactError(
            f"{work} holds a plan whose keys and values ({manifest.kv_layout or 'none'}) aren't "
            f"those of the engine ({KV_LAYOUT}): build it with --kv static"
        )
    check_built(work, manifest)


def check_built(work: Path, manifest: Manifest) -> None:
    """Raise ArtifactError or RunnerError unless a folder has a plan of TensorRT, as it says."""
    if manifest.plan is None or PLAN_FILE not in manifest.files:
        raise ArtifactError(
            f"{work} has no {PLAN_FILE} yet: run `python -m export plan {work}` on the machine "
            "that serves"
        )
    header = servable_header(work / PLAN_FILE)
    if not is_same_version(header.version, manifest.plan.tensorrt_version):
        raise ArtifactError(
            f"{work / PLAN_FILE} was built by TensorRT {header.version}, its manifest says "
            f"{manifest.plan.tensorrt_version}: build it again"
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the kernel drops when the process ends, however it ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(
                f"another export is writing to {folder}: wait until it ends"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _clean(versions: Path) -> None:
    """Remove what killed exports left; none is running, since the lock is ours."""
    restore_folders(versions)
    for leftover in versions.glob(".*.tmp-*"):
        shutil.rmtree(leftover)


def _copy_static_files(template: Path, repository: Path) -> None:
    """Bring configurations and scripts to another repository; the newer file of two wins."""
    if not template.is_dir() or template.resolve() == repository.resolve():
        return
    for model in sorted(template.iterdir()):
        if not model.is_dir():
            continue
        (repository / model.name).mkdir(exist_ok=True)
        _copy_newer(model / MODEL_CONFIG, repository / model.name / MODEL_CONFIG)
        if model.name != ENGINE_MODEL:  # its versions hold their own script
            (repository / model.name / MODEL_SCRIPT).parent.mkdir(exist_ok=True)
            _copy_newer(model / MODEL_SCRIPT, repository / model.name / MODEL_SCRIPT)


def _copy_newer(source: Path, target: Path) -> None:
    if not source.is_file():
        return
    if target.is_file() and target.stat().st_mtime >= source.stat().st_mtime:
        return
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.copy2(source, temporary)
    temporary.replace(target)


def _write_warmup(repository: Path, prompt: str) -> None:
    """One BYTES element as Triton's `input_data_file` has it: length, then the bytes."""
    content = prompt.encode()
    for model in WARMED_UP_MODELS:
        path = repository / model / "warmup" / "prompt"
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(".prompt.tmp")
        temporary.write_bytes(struct.pack("<I", len(content)) + content)
        temporary.replace(path)
