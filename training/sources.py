"""Folders, or nothing, in; trees of Python files, each with its licence and version, out.

Nothing means the standard library and every installed package whose metadata declare a permissive
licence. A tree lists all its files: those that its folders or git's rules rule out come with the
reason. Opens no source file, and knows nothing of splits or of tokens.
"""

import os
import platform
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

from training.errors import CorpusError
from training.filters import GENERATED, Drop
from training.gitignore import IgnoreRules
from training.licences import UNKNOWN, declared_licence, is_permissive, licence_from_text

VENDORED = Drop("vendored")
TEST_DATA = Drop("test or test data")
IGNORED = Drop("ignored by git")

# Whole folders that are not what a tree is for. Vendored trees carry licences of their own; tests
# and fixtures teach a small model little; `encodings` and `pydoc_data` are generated tables.
_FOLDERS_BY_DROP = {
    VENDORED: "vendor vendored third_party thirdparty 3rdparty extern externals bundled",
    TEST_DATA: "test tests testing testdata test_data testsuite idle_test fixtures",
    GENERATED: "encodings pydoc_data generated",
}
_FOLDERS = {name: drop for drop, names in _FOLDERS_BY_DROP.items() for name in names.split()}
# Other trees inside a tree: not its files, so not on its record either.
_FOREIGN_FOLDERS = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__"})
_TEST_FILE = re.compile(r"(?:test_.*|.*_test|conftest)\.py")
_LICENCE_FILES = ("LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md", "COPYING")


@dataclass(frozen=True, slots=True)
class Tree:
    """One source: the paths of its files start at ``root``; ``packaged`` is what a wheel lists.

    The name is free of local paths: the package's, or the folder's own.
    """

    name: str
    version: str
    licence: str
    root: Path
    packaged: tuple[PurePosixPath, ...] | None = None

    def files(self) -> "Iterator[Found]":
        """Every ``.py`` file, in sorted order; no source file is opened."""
        if self.packaged is None:
            yield from _walk(self.root, f"{self.name}/")
        else:
            for path in sorted(self.packaged):
                yield Found(path.as_posix(), self.root / path, _path_drop(path))


@dataclass(frozen=True, slots=True)
class Found:
    """A file; ``name`` goes on record, ``drop`` tells why not to open it."""

    name: str
    path: Path
    drop: Drop | None


@dataclass(frozen=True, slots=True)
class Selection:
    """The trees to read, and the licences of the installed packages refused, by package."""

    trees: tuple[Tree, ...]
    refused: dict[str, str]


def select_trees(roots: tuple[Path, ...], allowed_licences: frozenset[str]) -> Selection:
    """The trees below ``roots``, whatever their licence; without roots, what is installed.

    Naming a folder is the user's own permission; only installed packages are judged. Raises
    CorpusError when a root is no folder.
    """
    for root in roots:
        if not root.is_dir():
            raise CorpusError(f"{root} is not a folder: name the top of a source tree")
    if roots:
        return Selection(tuple(_named_tree(root) for root in roots), {})
    packages = _installed_packages()
    kept = [tree for tree in packages if is_permissive(tree.licence, allowed_licences)]
    names = {tree.name for tree in kept}
    refused = {tree.name: tree.licence for tree in packages if tree.name not in names}
    return Selection((_named_tree(standard_library()), *kept), refused)


def standard_library() -> Path:
    """The running interpreter's standard library, pure-Python part."""
    return Path(sysconfig.get_paths()["stdlib"])


def _named_tree(root: Path) -> Tree:
    full = root.resolve()
    if full == standard_library().resolve():
        return Tree(full.name, platform.python_version(), "PSF-2.0", root)
    if "site-packages" in full.parts:
        inner = full.parts[full.parts.index("site-packages") + 1 :]
        package = _package_of(inner[0]) if inner else None
        version, licence = package or ("", UNKNOWN)
        return Tree("/".join(inner) or full.name, version, licence, root)
    return Tree(full.name or "root", "", _licence_of_folder(full), root)


def _distributions() -> Iterator[metadata.Distribution]:
    """What is installed, as the standard library finds it: `importlib_metadata`, once anything
    imports it, takes the place of that finder, and lists no file that is missing.
    """
    context = metadata.DistributionFinder.Context()
    yield from metadata.MetadataPathFinder.find_distributions(context)


def _package_of(module: str) -> tuple[str, str] | None:
    """Version and licence of the distribution that installed a top-level module."""
    for distribution in _distributions():
        files = distribution.files or ()
        if any(file.parts[0] in (module, f"{module}.py") for file in files):
            return distribution.version, declared_licence(distribution.metadata)
    return None


def _licence_of_folder(root: Path) -> str:
    for name in _LICENCE_FILES:
        try:
            text = (root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        return licence_from_text(text)
    return UNKNOWN


def _installed_packages() -> list[Tree]:
    """All installed distributions, by name; the first of each name on the path counts."""
    found: dict[str, Tree] = {}
    for distribution in _distributions():
        fields = distribution.metadata
        name = re.sub(r"[-_.]+", "-", (fields["Name"] or "").lower())
        if not name or name in found:
            continue
        listed = [PurePosixPath(file.as_posix()) for file in distribution.files or ()]
        files = tuple(path for path in listed if path.suffix == ".py" and ".." not in path.parts)
        root = Path(str(distribution.locate_file("")))
        found[name] = Tree(name, distribution.version, declared_licence(fields), root, files)
    return [found[name] for name in sorted(found)]


def _walk(root: Path, prefix: str) -> Iterator[Found]:
    """The files below ``root``; links to folders are not followed, so that no walk is endless."""
    rules = {Path(root): IgnoreRules.above(root)}
    found = []
    for folder_name, folders, files in os.walk(root):
        folder = Path(folder_name)
        rules[folder] = here = rules[folder].entering(folder)
        folders[:] = [n for n in folders if n not in _FOREIGN_FOLDERS and not n.startswith(".")]
        for name in folders:
            rules[folder / name] = here
        for name in files:
            if name.endswith(".py"):
                path = folder / name
                inner = PurePosixPath(path.relative_to(root).as_posix())
                drop = _path_drop(inner) or (IGNORED if here.ignores(path) else None)
                found.append(Found(prefix + inner.as_posix(), path, drop))
    yield from sorted(found, key=lambda file: file.name)


def _path_drop(path: PurePosixPath) -> Drop | None:
    """What the names of a file and of the folders above it, inside its tree, say against it."""
    for folder in path.parts[:-1]:
        reason = _FOLDERS.get(folder.lower().strip("_").replace("-", "_"))
        if reason is not None:
            return reason
    return TEST_DATA if _TEST_FILE.fullmatch(path.name) else None
