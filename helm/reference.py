"""The table of values in the chart's README, made of the comments in values.yaml.

    python helm/reference.py            write it into the README
    python helm/reference.py --check    exit with 1 when the README's is another

Comes in: values.yaml, where the lines `# -- ...` before a key tell what it is. Goes out: the part
of README.md between the two marks. Raises ValueError for a value that nothing is told of.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CHART = Path(__file__).parent / "nanotriton"
BEGIN, END = "<!-- values -->\n", "<!-- /values -->\n"
_KEY = re.compile(r"( *)([A-Za-z][\w.-]*):(?: (.+))?$")


@dataclass(frozen=True, slots=True)
class Value:
    """One line of the table; `default` is YAML as it stands in the file."""

    path: str
    default: str
    told: str


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check; 1 when the README has another table."""
    parser = argparse.ArgumentParser(description="The table of values in the chart's README.")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args(argv)
    readme = CHART / "README.md"
    before = readme.read_text(encoding="utf-8")
    after = with_table(before, (CHART / "values.yaml").read_text(encoding="utf-8"))
    if options.check:
        return int(before != after)
    readme.write_text(after, encoding="utf-8")
    return 0


def with_table(readme: str, values: str) -> str:
    """The README with the values' table between its marks."""
    head, rest = readme.split(BEGIN)
    _, tail = rest.split(END)
    rows = [f"| `{one.path}` | `{one.default}` | {one.told} |\n" for one in read_values(values)]
    table = "".join(["| value | default | what it is |\n|---|---|---|\n", *rows])
    return "".join([head, BEGIN, table, END, tail])


def read_values(text: str) -> Iterator[Value]:
    """Every value that is told of, in the file's order."""
    path: list[str] = []
    told: list[str] = []
    is_inside = 1 << 30  # deeper lines belong to a default that stands in several lines
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("#"):
            comment = line.lstrip().removeprefix("#").strip()
            if comment.startswith("-- "):
                told = [comment.removeprefix("-- ")]
            elif told:
                told.append(comment)
            continue
        if not (found := _KEY.match(line)):
            continue
        depth = len(found[1]) // 2
        if depth > is_inside:
            continue
        path[depth:] = [found[2]]
        is_inside = 1 << 30
        if told:
            default = found[3] or _nested(lines, number, depth)
            yield Value(".".join(path), default, " ".join(told).replace("|", "\\|"))
            is_inside = depth
        elif found[3]:
            raise ValueError(f"nothing is told of {'.'.join(path)}: write '# -- ...' above it")
        told = []


def _nested(lines: list[str], number: int, depth: int) -> str:
    """A map in several lines, as YAML has it in one."""
    indent = " " * (2 * depth + 2)
    inner = []
    for line in lines[number + 1 :]:
        if not line.startswith(indent):
            break
        inner.append(line.strip())
    return f"{{{', '.join(inner)}}}"


if __name__ == "__main__":
    sys.exit(main())
