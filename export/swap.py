"""Two folders in, one in the other's place out, at one instant.

A process that is killed at any moment leaves either the old folder or the new one, complete.
Knows nothing of what the folders hold.
"""

import ctypes
import errno
import os
import shutil
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # linux/fs.h
# What a kernel, a C library or a file system without RENAME_EXCHANGE answers.
NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def swap_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`, which may not exist yet; what was there is deleted.

    Both lie in one folder. Where the file system can't exchange, the old one is renamed aside
    first (to `.NAME.old`), and `restore_folders` mends a kill between the two renames.
    """
    sync_folder(new)
    if not target.exists():
        new.rename(target)
    elif exchange(new, target):
        shutil.rmtree(new)
    else:
        aside = target.with_name(f".{target.name}.old")
        target.rename(aside)
        try:
            new.rename(target)
        except OSError:
            aside.rename(target)
            raise
        shutil.rmtree(aside)
    _sync(target.parent)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two names with renameat2(2); False where that is not supported."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    names = (AT_FDCWD, os.fsencode(first), AT_FDCWD, os.fsencode(second))
    if renameat2(*names, RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))


def restore_folders(parent: Path) -> None:
    """Undo or finish what a killed `swap_folder` left aside in `parent`."""
    for aside in parent.glob(".*.old"):
        target = parent / aside.name[1:].removesuffix(".old")
        if target.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(target)


def sync_folder(folder: Path) -> None:
    """Have the disk hold a folder's files before anything points at them."""
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
