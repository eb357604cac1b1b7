"""Which trees and which files: licences, installed packages, folders, git's rules."""

import random
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from training.gitignore import IgnoreRules
from training.licences import declared_licence, is_permissive, licence_from_text
from training.sources import Found, select_trees, standard_library

OSI = "License :: OSI Approved :: "
DECLARED = {
    "expression": (["License-Expression: MIT OR GPL-3.0-only"], "MIT OR GPL-3.0-only"),
    "expression first": (["License-Expression: MIT", f"Classifier: {OSI}BSD License"], "MIT"),
    "classifier": ([f"Classifier: {OSI}MIT License", "License: GPL"], "MIT"),
    "classifiers all hold": (
        [f"Classifier: {OSI}MIT License", f"Classifier: {OSI}Mozilla Public License 2.0 (MPL 2.0)"],
        "MIT AND MPL-2.0",
    ),
    "generic classifier": (["Classifier: License :: DFSG approved", "License: ISC"], "ISC"),
    "strange classifier": ([f"Classifier: {OSI}Odd (1.0)"], "LicenseRef-Odd-1.0"),
    "free text": (["License: Apache License, Version 2.0"], "Apache-2.0"),
    "free expression": (["License: MPL-2.0 AND MIT"], "MPL-2.0 AND MIT"),
    "prose": (["License: see the file"], "unknown"),
    "nothing": ([], "unknown"),
}


@pytest.mark.parametrize(("lines", "licence"), DECLARED.values(), ids=DECLARED.keys())
def test_metadata_declare_a_licence(tmp_path: Path, lines: list[str], licence: str) -> None:
    info = tmp_path / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("\n".join(["Name: thing", "Version: 1.0", *lines]) + "\n")

    assert declared_licence(metadata.PathDistribution(info).metadata) == licence


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("MIT License\n\nCopyright (c) 2022", "MIT"),
        ("3-Clause BSD License", "BSD-3-Clause"),
        ("The Apache 2.0 License", "Apache-2.0"),
        ("Copyright (c) 2005-2023, NumPy Developers.", "unknown"),
        ("\n", "unknown"),
    ],
)
def test_first_line_names_a_licence(text: str, licence: str) -> None:
    assert licence_from_text(text) == licence


@pytest.mark.parametrize(
    ("expression", "permissive"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MIT OR GPL-2.0-only) AND BSD-3-Clause", True),
        ("MIT AND (GPL-2.0-only OR LGPL-3.0-only)", False),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-3.0-only WITH Classpath-exception-2.0", False),
        ("unknown", False),
        ("", False),
        ("MIT AND", False),
        ("(MIT", False),
        ("MIT BSD", False),
    ],
)
def test_expression_is_permissive_if_one_choice_is(expression: str, permissive: bool) -> None:
    assert is_permissive(expression) is permissive


def test_allowed_licence_joins_the_list() -> None:
    assert is_permissive("MPL-2.0 AND MIT", frozenset({"MPL-2.0"}))
    assert is_permissive("unknown", frozenset({"unknown"}))
    assert not is_permissive("MPL-2.0 AND GPL-2.0-only", frozenset({"MPL-2.0"}))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four installed packages, alone on the path."""
    root = tmp_path / "site-packages"
    for name, licence in {"free": "MIT", "Viral": "GPL-3.0-only", "mozilla": "MPL-2.0"}.items():
        _install(root, name, f"License-Expression: {licence}\n")
    _install(root, "silent", "")
    monkeypatch.setattr("sys.path", [str(root)])
    return root


def _install(root: Path, name: str, metadata_line: str) -> None:
    info = root / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n{metadata_line}")
    files = (f"{name}/core.py", f"{name}/_vendor/six.py", f"{name}/tests/test_core.py")
    (info / "RECORD").write_text("".join(f"{f},,\n" for f in (*files, f"../bin/{name}.py")))


def test_installed_packages_need_a_permissive_licence(site: Path) -> None:
    selection = select_trees((), frozenset())

    assert [tree.name for tree in selection.trees] == [standard_library().name, "free"]
    assert selection.refused == {
        "viral": "GPL-3.0-only",
        "mozilla": "MPL-2.0",
        "silent": "unknown",
    }
    assert site.is_dir()


def test_licences_are_allowed_by_name(site: Path) -> None:
    selection = select_trees((), frozenset({"MPL-2.0", "unknown"}))

    assert [tree.name for tree in selection.trees[1:]] == ["free", "mozilla", "silent"]
    assert site.is_dir()


def test_wheels_own_list_is_read_without_what_it_vendors(site: Path) -> None:
    tree = select_trees((), frozenset()).trees[1]

    assert [(file.name, file.drop and file.drop.reason) for file in tree.files()] == [
        ("free/_vendor/six.py", "vendored"),
        ("free/core.py", None),
        ("free/tests/test_core.py", "test or test data"),
    ]
    assert (tree.version, tree.licence, tree.root) == ("1.0", "MIT", site)


def test_named_folder_of_a_package_carries_its_licence(site: Path) -> None:
    (site / "Viral").mkdir()
    (site / "Viral" / "__init__.py").touch()
    (tree,) = select_trees((site / "Viral",), frozenset()).trees

    assert (tree.name, tree.licence) == ("Viral", "GPL-3.0-only")


def test_named_folder_tells_its_licence_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("MIT License\n\nCopyright")

    assert select_trees((tmp_path,), frozenset()).trees[0].licence == "MIT"
    assert select_trees((tmp_path.parent,), frozenset()).trees[0].licence == "unknown"


def test_standard_library_is_found_without_tests_and_tables() -> None:
    (tree,) = select_trees((standard_library(),), frozenset()).trees
    names = {file.name.partition("/")[2]: file.drop for file in tree.files()}

    assert names["json/decoder.py"] is None
    assert names["encodings/cp037.py"] is not None
    assert not any(name.startswith("site-packages/") for name in names)
    assert tree.licence == "PSF-2.0"


def listed(root: Path) -> list[Found]:
    return list(select_trees((root,), frozenset()).trees[0].files())


def kept(root: Path) -> set[str]:
    return {file.name.partition("/")[2] for file in listed(root) if file.drop is None}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_rules_of_git_hold_by_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            ".gitignore": "out/\n*_local.py\n/top.py\n",
            "top.py": "",
            "a.py": "",
            "a_local.py": "",
            "out/b.py": "",
            "out/.gitignore": "!b.py\n",  # too late: its folder is ignored
            "sub/top.py": "",
            "sub/.gitignore": "!c_local.py\n",
            "sub/c_local.py": "",
        },
    )

    assert kept(tmp_path) == {"a.py", "sub/top.py", "sub/c_local.py"}


def test_list_of_exceptions_keeps_nothing_else(tmp_path: Path) -> None:
    """pathspec's own check_file let ``!*/`` take back ``*`` for every file in a folder."""
    write(tmp_path, {".gitignore": "*\n!*/\n!b.py\n", "a/a.py": "", "a/b/a.py": "", "a/b/b.py": ""})

    assert kept(tmp_path) == {"a/b/b.py"}


RULES = ["x.py", "!x.py", "/a", "a/", "b/*", "!b/c", "**/y.py", "/b/**/z.py", "c/", "!c/", "*.py"]
RULES += ["!/a/x.py", "a/b", "a/**", "# c", "  ", "*", "!*/", "\\!x.py", "[xy].py"]


@pytest.mark.skipif(shutil.which("git") is None, reason="git itself is the measure")
@pytest.mark.parametrize("seed", range(8))
def test_git_ignores_the_same_files(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    folders = [tmp_path.joinpath(*rng.choices("abc", k=rng.randint(0, 3))) for _ in range(25)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{rng.choice('xyz')}.py").touch()
    for folder in dict.fromkeys([tmp_path, *folders[::3]]):
        (folder / ".gitignore").write_text("\n".join(rng.sample(RULES, 3)))
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    names = [file.name.partition("/")[2] for file in listed(tmp_path)]
    command = ["git", "-C", str(tmp_path), "check-ignore", "--stdin"]
    answer = subprocess.run(  # its status says whether it ignores any
        command, input="\n".join(names), capture_output=True, text=True, check=False
    )

    assert set(names) - kept(tmp_path) == set(answer.stdout.splitlines())


def test_rules_above_the_folder_hold_up_to_the_repository(tmp_path: Path) -> None:
    write(tmp_path, {".gitignore": "*.py\n", "repo/.gitignore": "gen_*.py\n"})
    write(tmp_path / "repo", {".git/HEAD": "", "src/a.py": "", "src/gen_b.py": ""})

    assert kept(tmp_path / "repo" / "src") == {"a.py"}


def test_ignored_folder_is_read_when_it_is_named(tmp_path: Path) -> None:
    write(tmp_path, {".git/HEAD": "", ".gitignore": "env/\n", "env/lib/a.py": ""})

    assert kept(tmp_path / "env" / "lib") == {"a.py"}
    assert IgnoreRules.above(tmp_path / "env").specs == ()


def test_hidden_folders_and_inner_installations_are_not_listed(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "", ".venv/b.py": "", "env/lib/site-packages/c.py": ""})

    assert {file.name.partition("/")[2] for file in listed(tmp_path)} == {"a.py"}
