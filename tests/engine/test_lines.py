"""Logical lines as Python's own tokenizer finds them, and what is left of it in other text."""

import io
import itertools
import tokenize
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.lines import Line, LineScanner

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for room in ("nanotriton", "clients", "tests") for path in ROOT.glob(f"{room}/**/*.py")
)
SKIPPED = (tokenize.INDENT, tokenize.DEDENT, tokenize.NL, tokenize.COMMENT, tokenize.ENCODING)


def scan(text: str) -> list[Line]:
    """The logical lines of a text that ends with a newline."""
    scanner = LineScanner()
    return [line for char in text if (line := scanner.push(char))]


def lines_of_python(source: str) -> list[tuple[int, str, bool]]:
    """Indentation, first word, and whether ":" ends it, of each logical line."""
    tokens = [
        one
        for one in tokenize.generate_tokens(io.StringIO(source).readline)
        if one.type not in SKIPPED
    ]
    lines = []
    for is_newline, group in itertools.groupby(tokens, lambda one: one.type == tokenize.NEWLINE):
        line = [one for one in group if one.type != tokenize.ENDMARKER]
        if line and not is_newline:
            is_async = line[0].string == "async"
            first = line[1 if is_async else 0]
            lines.append((line[0].start[1], first.string, line[-1].string == ":"))
    return lines


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_lines_are_those_of_pythons_tokenizer(path: Path) -> None:
    source = path.read_text(encoding="utf-8")

    expected = lines_of_python(source)
    found = scan(source)

    assert len(found) == len(expected)
    for line, (indent, first, opens) in zip(found, expected, strict=True):
        assert (line.indent, line.opens) == (indent, opens)
        assert first.startswith(line.word)  # of a number or a string it is the beginning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\tx\n", [Line(8, "x", False)]),
        ("  \tx\n", [Line(8, "x", False)]),
        ("if a:  # why: b\r\n  b\r\n", [Line(0, "if", True), Line(2, "b", False)]),
        ("x = {\n1: 2,\n}\ny\n", [Line(0, "x", False), Line(0, "y", False)]),
        ("x = a + \\\nb\ny\n", [Line(0, "x", False), Line(0, "y", False)]),
        ('x = """a\n"b\\"""\n"""\ny\n', [Line(0, "x", False), Line(0, "y", False)]),
        ("x = '''' '''\ny\n", [Line(0, "x", False), Line(0, "y", False)]),
        ("x = ''\ny = '\\'('\nz\n", [Line(0, one, False) for one in "xyz"]),
        (
            "fn f<'a>(s: &'a str) {}\nlet c = 'x\ny\n",
            [Line(0, w, False) for w in ("fn", "let", "y")],
        ),
        ("# only: a comment\n\n   \n", []),
        ("async def f():\n", [Line(0, "def", True)]),
        ("@cache(\n)\n", [Line(0, "@", False)]),
        ("else:\n", [Line(0, "else", True)]),
        (")\n", [Line(0, ")", False)]),
    ],
)
def test_line(text: str, expected: list[Line]) -> None:
    assert scan(text) == expected


@given(st.text("ab:#'\"\\()[] \t\r\n", max_size=60))
def test_any_text_is_read(text: str) -> None:
    for line in scan(text):
        assert line.word
        assert line.indent <= 8 * len(text)
