import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from export import swap
from export.swap import restore_folders, swap_folder


def make(folder: Path, content: str) -> Path:
    folder.mkdir()
    (folder / "model").write_text(content)
    return folder


@pytest.fixture(params=["exchange", "no exchange"])
def either_way(request, monkeypatch):
    """Runs a test with renameat2 and as on a file system without it."""
    if request.param == "no exchange":
        monkeypatch.setattr(swap, "exchange", lambda *_: False)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("old", [None, "old"], ids=["nothing there", "replace"])
def test_new_folder_takes_the_place(tmp_path, old):
    if old:
        make(tmp_path / "1", old)
    swap_folder(make(tmp_path / ".1.tmp-7", "new"), tmp_path / "1")
    assert (tmp_path / "1" / "model").read_text() == "new"
    assert os.listdir(tmp_path) == ["1"]


def test_failed_rename_puts_the_old_folder_back(tmp_path, monkeypatch):
    make(tmp_path / "1", "old")
    new = make(tmp_path / ".1.tmp-7", "new")
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self == new:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(swap, "exchange", lambda *_: False)
    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(OSError, match="No space left"):
        swap_folder(new, tmp_path / "1")
    assert (tmp_path / "1" / "model").read_text() == "old"


def test_exchange_of_a_missing_folder_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        swap.exchange(tmp_path / "a", tmp_path / "b")


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from export import swap

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

moment, folder = sys.argv[1], Path(sys.argv[2])
renames = iter([Path.rename, die])
if moment == "sync":
    swap.sync_folder = die
elif moment == "exchange":
    swap.exchange = die
elif moment == "removal":
    shutil.rmtree = die
elif moment == "between the renames":
    swap.exchange = lambda *_: False
    Path.rename = lambda self, target: next(renames)(self, target)
swap.swap_folder(folder / ".1.tmp-7", folder / "1")
"""


@pytest.mark.parametrize(
    ("moment", "survivor"),
    [("sync", "old"), ("exchange", "old"), ("between the renames", "old"), ("removal", "new")],
)
def test_killed_swap_leaves_one_complete_folder(tmp_path, moment, survivor):
    make(tmp_path / "1", "old")
    make(tmp_path / ".1.tmp-7", "new")
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    restore_folders(tmp_path)
    assert (tmp_path / "1" / "model").read_text() == survivor
    assert not list(tmp_path.glob(".*.old"))
