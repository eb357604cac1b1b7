import dataclasses
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export.repository import publish
from nanotriton.errors import ArtifactError, ParityError
from nanotriton.manifest import Manifest, newest_version, versions_of
from nanotriton.runners.ort import OrtRunner
from nanotriton.tokenizer import load_tokenizer


@pytest.fixture
def work(artifact_of, tmp_path) -> Path:
    """An artifact that passed parity."""
    folder = shutil.copytree(artifact_of("fp32"), tmp_path / "work")
    dataclasses.replace(Manifest.load(folder), parity={"top1": 1.0}).save(folder)
    return folder


@pytest.fixture
def template(tmp_path) -> Path:
    """The checkout's model repository, as git has it."""
    root = tmp_path / "template"
    for model in ("gpt", "preprocessing", "completion_stream", "completion"):
        (root / model / "1").mkdir(parents=True)
        (root / model / "config.pbtxt").write_text(f'name: "{model}"')
        if model != "completion":
            (root / model / "1" / "model.py").write_text(f"# {model}")
    (root / "completion" / "1" / ".gitkeep").touch()
    return root


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_version_is_complete(work, template, tmp_path):
    folder = publish(work, tmp_path / "repo", None, "python -m export", template)
    assert folder == newest_version(tmp_path / "repo") == tmp_path / "repo" / "gpt" / "1"
    assert files_of(folder) == {
        "manifest.json", "model.onnx", "model.onnx.data", "model.py", "tokenizer.json",
        "tokenizer.tiktoken",
    }  # fmt: skip
    assert Manifest.load(folder).created_by == "python -m export"
    assert load_tokenizer(folder).num_tokens == OrtRunner(folder, 1, 1).vocab_size


def test_versions_count_up_and_are_replaced_when_named(work, template, tmp_path):
    repository = tmp_path / "repo"
    for version in (None, None, 7, None, 1):
        publish(work, repository, version, f"export to {version}", template)
    assert versions_of(repository) == [1, 2, 7, 8]
    assert Manifest.load(repository / "gpt" / "1").created_by == "export to 1"
    assert not list((repository / "gpt").glob(".*"))


def test_another_repository_gets_the_static_files(work, template, tmp_path):
    publish(work, tmp_path / "repo", 3, "", template)
    assert files_of(template) - {"gpt/1/model.py", "completion/1/.gitkeep"} <= files_of(
        tmp_path / "repo"
    )
    assert (tmp_path / "repo" / "completion" / "1").is_dir()
    assert not (tmp_path / "repo" / "gpt" / "1").exists()


@pytest.mark.parametrize(("age_s", "kept"), [(-60, True), (60, False)], ids=["older", "newer"])
def test_newer_static_file_wins(work, template, tmp_path, age_s, kept):
    publish(work, tmp_path / "repo", None, "", template)
    mine = tmp_path / "repo" / "gpt" / "config.pbtxt"
    mine.write_text("edited")
    changed = mine.stat().st_mtime + age_s
    os.utime(template / "gpt" / "config.pbtxt", (changed, changed))
    publish(work, tmp_path / "repo", None, "", template)
    assert (mine.read_text() == "edited") == kept


def test_checkouts_own_repository_keeps_its_script(work, template):
    publish(work, template, None, "", template)
    assert (template / "gpt" / "1" / "model.py").read_text() == "# gpt"
    assert versions_of(template) == [1]


@pytest.mark.parametrize("model", ["preprocessing", "completion_stream"])
def test_warmup_file_is_tritons(work, template, tmp_path, model):
    publish(work, tmp_path / "repo", None, "", template)
    content = (tmp_path / "repo" / model / "warmup" / "prompt").read_bytes()
    assert content == b"\x06\x00\x00\x00def f("


def test_artifact_without_parity_is_refused(artifact_of, tmp_path):
    with pytest.raises(ParityError, match="has not passed parity"):
        publish(artifact_of("fp32"), tmp_path / "repo", None, "")
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize("name", ["model.onnx.data", "tokenizer.json"])
def test_artifact_changed_after_parity_is_refused(work, tmp_path, name):
    (work / name).write_bytes((work / name).read_bytes() + b" ")
    with pytest.raises(ArtifactError, match=f"has {name} changed"):
        publish(work, tmp_path / "repo", None, "")
    assert not (tmp_path / "repo").exists()


def test_two_exports_at_once_are_refused(work, template, tmp_path):
    versions = tmp_path / "repo" / "gpt"
    versions.mkdir(parents=True)
    other = os.open(versions, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(ArtifactError, match="another export is writing"):
        publish(work, tmp_path / "repo", None, "", template)
    os.close(other)
    publish(work, tmp_path / "repo", None, "", template)


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from export import repository, swap

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment, *paths = sys.argv[1:]
work, repo, template = map(Path, paths)
copies = iter([shutil.copyfile, die])
if moment == "first file":
    shutil.copyfile = lambda *names: next(copies)(*names)
elif moment == "manifest":
    repository.Manifest.save = die
elif moment == "swap":
    swap.exchange = die
elif moment == "removal":
    swap.shutil.rmtree = die
repository.publish(work, repo, 1, "new", template)
"""


@pytest.mark.parametrize(
    ("moment", "survivor"),
    [("first file", "old"), ("manifest", "old"), ("swap", "old"), ("removal", "new")],
)
def test_killed_export_leaves_one_complete_version(work, template, tmp_path, moment, survivor):
    repository = tmp_path / "repo"
    folder = publish(work, repository, 1, "old", template)
    complete = files_of(folder)
    command = [sys.executable, "-c", KILLED, moment, work, repository, template]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert versions_of(repository) == [1]
    assert files_of(folder) == complete
    assert Manifest.load(folder).created_by == survivor
    publish(work, repository, 1, "next", template)
    assert not list((repository / "gpt").glob(".*"))


def test_nothing_is_written_without_the_adapters_script(work, template, tmp_path):
    (template / "gpt/1/model.py").unlink()
    with pytest.raises(ArtifactError, match=r"model\.py is missing"):
        publish(work, tmp_path / "repo", None, "", template)
    assert not (tmp_path / "repo").exists()
