"""A proved scoring graph in, the ensemble `score` in a model repository out.

With a plan the step that computes is `gpt_plan`, by Triton's own TensorRT backend; without one it
is `gpt_graph`, the same graph on the CPU. The models are always version 1; each is swapped in
whole. Knows nothing of the engine.
"""

import dataclasses
import os
import re
import shutil
from pathlib import Path

from export.artifact import check_files
from export.repository import check_built, locked
from export.swap import restore_folders, swap_folder
from nanotriton.contract import (
    GRAPH_FILE,
    PLAN_FILE,
    PLAN_MODEL,
    RANKS_FILE,
    SCORE_GRAPH_MODEL,
    SCORE_MODEL,
    SCORE_TOKENS_MODEL,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)
from nanotriton.manifest import Manifest, check_seal

TEMPLATE = Path(__file__).resolve().parent.parent / "score_repository"
TOKENIZER_FILES = (TOKENIZER_FILE, RANKS_FILE)
FILES = {
    PLAN_MODEL: (PLAN_FILE,),
    SCORE_GRAPH_MODEL: (GRAPH_FILE, WEIGHTS_FILE),
    SCORE_TOKENS_MODEL: TOKENIZER_FILES,
    SCORE_MODEL: (),
}


def is_scoring(manifest: Manifest) -> bool:
    """Whether a folder holds the form without a past."""
    return manifest.runner == "trt" and not manifest.kv_layout


def publish_scores(work: Path, repository: Path, command: str) -> Path:
    """Write `repository`/score and its steps from a folder of `export plan --kv none`.

    Returns the ensemble's folder. Raises ArtifactError when files changed since, or another export
    is writing, and RunnerError for a plan that can't be served.
    """
    manifest = dataclasses.replace(Manifest.load(work), created_by=command)
    check_seal(work)
    check_files(work, manifest)
    if manifest.plan is not None:
        check_built(work, manifest)
    step, other = PLAN_MODEL, SCORE_GRAPH_MODEL
    if manifest.plan is None:
        step, other = other, step
    repository.mkdir(parents=True, exist_ok=True)
    with locked(repository):
        restore_folders(repository)
        for leftover in repository.glob(".score.tmp-*"):
            shutil.rmtree(leftover)
        for model in (step, SCORE_TOKENS_MODEL, SCORE_MODEL):
            new = repository / f".score.tmp-{os.getpid()}"
            shutil.copytree(TEMPLATE / model, new)
            _fill(new, work, model, manifest, step)
            swap_folder(new, repository / model)
        shutil.rmtree(repository / other, ignore_errors=True)  # of an earlier export
    return repository / SCORE_MODEL


def _fill(folder: Path, work: Path, model: str, manifest: Manifest, step: str) -> None:
    """Bring a model's files, and its sizes and steps, to the template's copy."""
    version = folder / "1"
    version.mkdir(exist_ok=True)
    for name in FILES[model]:
        if name in manifest.files:
            shutil.copyfile(work / name, version / name)
    if FILES[model]:
        files = {name: digest for name, digest in manifest.files.items() if name in FILES[model]}
        dataclasses.replace(manifest, files=files).save(version)
    config = folder / "config.pbtxt"
    text = config.read_text(encoding="utf-8").replace(PLAN_MODEL, step)
    if manifest.plan is not None:
        text = re.sub(r"max_batch_size: \d+", f"max_batch_size: {manifest.plan.max_batch}", text)
    config.write_text(text, encoding="utf-8")
