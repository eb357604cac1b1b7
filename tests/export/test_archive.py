"""The archive of a repository: whole, the same each time, refused when the repository won't do."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from export.__main__ import main
from export.archive import write_archive
from nanotriton.errors import ArtifactError


@pytest.fixture
def repository(demo_repository: Path, tmp_path: Path) -> Path:
    """One of the test's own with two versions, and what a machine leaves in it."""
    folder = Path(shutil.copytree(demo_repository, tmp_path / "repository"))
    shutil.copytree(folder / "gpt/1", folder / "gpt/2")
    (folder / "gpt/2/tuned.json").write_text("{}")
    (folder / "preprocessing/1/__pycache__").mkdir(exist_ok=True)
    (folder / "preprocessing/1/__pycache__/model.pyc").write_bytes(b"")
    return folder


def test_archive_holds_all_models_and_the_newest_version_alone(
    repository: Path, tmp_path: Path
) -> None:
    version = write_archive(repository, tmp_path / "model.tar.gz")

    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        names = archive.getnames()
    assert version == repository / "gpt/2"
    assert {"completion/1", "completion/config.pbtxt", "preprocessing/warmup/prompt"} <= {*names}
    assert {"gpt/2/model.py", "gpt/2/manifest.json", "gpt/2/model.onnx"} <= {*names}
    assert not [name for name in names if name.startswith("gpt/1") or "__pycache__" in name]
    assert "gpt/2/tuned.json" not in names
    assert not [name for name in names if name.startswith(("/", "."))]


def test_same_repository_gives_the_same_bytes(repository: Path, tmp_path: Path) -> None:
    write_archive(repository, tmp_path / "one.tar.gz")
    for path in repository.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode & 0o777 | 0o600)
    write_archive(repository, tmp_path / "two.tar.gz")

    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()


def test_torn_version_leaves_the_former_archive(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "model.tar.gz"
    target.write_bytes(b"the former one")
    (repository / "gpt/2/model.onnx").write_bytes(b"torn")

    assert main(["archive", str(repository), "--out", str(target)]) == 1

    assert "model.onnx changed" in capsys.readouterr().err
    assert target.read_bytes() == b"the former one"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["model.tar.gz"]


def test_link_is_refused(repository: Path, tmp_path: Path) -> None:
    (repository / "postprocessing/1/link.py").symlink_to("/etc/hostname")

    with pytest.raises(ArtifactError, match=r"link\.py is no file or folder"):
        write_archive(repository, tmp_path / "model.tar.gz")
