"""``.gitignore`` files in; whether git would ignore a path out.

As in git, rules of deeper folders go before those above them, and a file in an ignored folder stays
ignored whatever the rules below say. The matching itself is pathspec's.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """The rules that hold in one folder: (folder, its rules), outermost first."""

    specs: tuple[tuple[Path, GitIgnoreSpec], ...] = ()
    folder_ignored: bool = False

    @classmethod
    def above(cls, root: Path) -> "IgnoreRules":
        """The rules of the repository that ``root`` lies in, from its top down to root's parent.

        None when they ignore ``root`` itself: who names an ignored folder means it.
        """
        full = root.absolute()
        tops = [folder for folder in (full, *full.parents) if (folder / ".git").exists()]
        if not tops:
            return cls()
        rules = cls()
        between = [folder for folder in full.parents if folder.is_relative_to(tops[0])]
        for folder in reversed(between):
            rules = rules._with(folder)
        return cls() if rules.ignores(full, is_folder=True) else rules

    def entering(self, folder: Path) -> "IgnoreRules":
        """The rules for what lies in ``folder``, its own ``.gitignore`` included."""
        full = folder.absolute()
        if self.folder_ignored or self.ignores(full, is_folder=True):
            return IgnoreRules(folder_ignored=True)
        return self._with(full)

    def _with(self, folder: Path) -> "IgnoreRules":
        try:
            lines = (folder / ".gitignore").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):  # as good as none
            return self
        return IgnoreRules((*self.specs, (folder, GitIgnoreSpec.from_lines(lines))))

    def ignores(self, path: Path, is_folder: bool = False) -> bool:
        if self.folder_ignored:
            return True
        full = path.absolute()
        for folder, spec in reversed(self.specs):
            inner = full.relative_to(folder).as_posix()
            verdict = _verdict(spec, f"{inner}/" if is_folder else inner)
            if verdict is not None:
                return verdict
        return False


def _verdict(spec: GitIgnoreSpec, name: str) -> bool | None:
    """What the last rule that matches ``name`` itself says; a folder's name ends with a slash.

    ``spec.check_file`` will not do: it lets a rule that matches a folder above decide too, so that
    ``!*/`` would take back what ``*`` says of files.
    """
    for pattern in reversed(list(spec.patterns)):
        if pattern.include is None or pattern.regex is None:  # a comment or an empty line
            continue
        if any(_is_whole(match, name) for match in pattern.regex.finditer(name)):
            return pattern.include
    return None


def _is_whole(match: re.Match[str], name: str) -> bool:
    """False when the rule matched a folder above: pathspec marks the slash after it ``ps_d``."""
    return match.groupdict().get("ps_d") is None or match.end("ps_d") == len(name)
