"""Exports into places that can't take them: one line, and what was there before stays whole."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from export.__main__ import main
from export.repository import publish
from nanotriton.errors import ManifestError
from nanotriton.manifest import Manifest, check_seal, sha256_file, versions_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def work(artifact_of, tmp_path) -> Path:
    """An artifact that passed parity, with weights of a few megabytes."""
    folder = Path(shutil.copytree(artifact_of("fp32"), tmp_path / "work"))
    path = folder / "model.onnx.data"
    path.write_bytes(path.read_bytes() + bytes(4 << 20))
    manifest = Manifest.load(folder)
    files = manifest.files | {path.name: sha256_file(path)}
    dataclasses.replace(manifest, parity={"top1": 1.0}, files=files).save(folder)
    return folder


def whole_versions(repository: Path) -> list[int]:
    """The versions, each of which must be as its manifest says."""
    for version in versions_of(repository):
        folder = repository / "gpt" / str(version)
        check_seal(folder)
        for name, sha256 in Manifest.load(folder).files.items():
            assert sha256_file(folder / name) == sha256
    return versions_of(repository)


def test_disk_full_in_mid_write_leaves_the_old_version(work, small_disk, capsys):
    repository = small_disk(7)
    assert main(["repository", str(work), "--repository", str(repository)]) == 0
    for words in ([], ["--version", "1"]):
        capsys.readouterr()
        assert main(["repository", str(work), "--repository", str(repository), *words]) == 1
        told = capsys.readouterr().err
        assert "No space left on device" in told
        assert told.endswith("choose another disk (--repository, TMPDIR)\n")
        assert told.count("\n") == 1
        assert whole_versions(repository) == [1]
        assert not list((repository / "gpt").glob(".*"))


def test_disk_full_while_the_graph_is_written_is_one_line(nanogpt, small_disk, capsys):
    out = small_disk(1) / "work"
    (out.parent / "filler").write_bytes(bytes(1000 << 10))
    assert main(["graph", str(nanogpt()), "--out", str(out)]) == 1
    told = capsys.readouterr().err
    assert "No space left on device" in told
    assert told.count("\n") == 1


def test_repository_that_cannot_be_written_is_refused_first(small_disk, capsys):
    repository = small_disk(1, "ro") / "repository"
    assert main(["all", "absent", "--repository", str(repository)]) == 1
    assert f"{repository.parent} can't be written: choose another" in capsys.readouterr().err


def test_repository_that_is_a_file_is_refused_first(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["all", "absent", "--repository", str(tmp_path / "file")]) == 1
    assert f"{tmp_path / 'file'} is no folder" in capsys.readouterr().err


def test_manifest_edited_by_hand_is_not_published(work, tmp_path):
    path = work / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | {"parity": {"top1": 0.5}}))
    with pytest.raises(ManifestError, match="edited by hand"):
        publish(work, tmp_path / "repository", None, "")
    assert not (tmp_path / "repository").exists()
    path.write_text(json.dumps(dict(reversed(values.items()))))  # the same, in another order
    publish(work, tmp_path / "repository", None, "")


def test_exports_at_the_same_time_corrupt_nothing(work, tmp_path):
    command = [sys.executable, "-m", "export", "repository", str(work), "--repository"]
    processes = [
        subprocess.Popen([*command, str(tmp_path / "repo")], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    told = [process.communicate()[1].decode() for process in processes]
    codes = [process.returncode for process in processes]
    assert all(
        "another export is writing" in one for one, code in zip(told, codes, strict=True) if code
    )
    assert whole_versions(tmp_path / "repo") == list(range(1, 1 + codes.count(0)))
    assert codes.count(0) >= 1
    assert not list((tmp_path / "repo" / "gpt").glob(".*"))
