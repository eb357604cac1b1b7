"""The end of a block and of a function: a table of the rule, Python's own parser, any chunking."""

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.blocks import UNITS, BlockMatcher, find_end
from nanotriton.engine.stops import TextEnd

ROOT = Path(__file__).parents[2]
# In each the cursor is at |, and ^ is where the text must end (none: it does not).
BLOCK = {
    "body of a header": "def f(n):|\n    if n:\n        return n\n    return 0^\n\n\ndef g():\n",
    "header goes on": "def f(|n):\n    return 0^\ng()\n",
    "body begun": "def f(n):\n    |return n^\n\ng()\n",
    "body begun by a newline": "def f(n):\n|    return n^\ng()\n",
    "no body at all": "def f(n):\n|^\ng()\n",
    "inner block": "def f():\n    for x in y:\n        a(|x)\n        b()^\n    c()\n",
    "unit that nobody opened": "        a(|x)\n\n        b()^\n    c()\n",
    "written loop is not the end": "def f():\n    a\n    |for x in y:\n        z\n    b^\nc\n",
    "cursor's loop is the end": "def f():\n    a\n    for x| in y:\n        z^\n    b\nc\n",
    "else goes on": "def f():\n    if a:\n        b|\n    else:\n        c^\n    d\n",
    "elif and else": "if a:|\n    b\nelif c:\n    d\nelse:\n    e^\nelsewhere = 1\n",
    "try to the end": "try:\n    a|\nexcept E:\n    b\nelse:\n    c\nfinally:\n    d^\ne\n",
    "word that begins as else": "    if a:\n        b|^\n    elsewhere = 1\n",
    "word that is a part of else": "    if a:\n        b|^\n    els = 1\n",
    "else of an outer statement": "if a:\n    with b:\n        c|^\nelse:\n    d\n",
    "def has no else": "def f():\n    a|^\nelse:\n    b\n",
    "comment further out": "def f():\n    a|\n    # in\n    b^\n# out\n    c\n",
    "comment before else": "if a:\n    b|^\n# otherwise\nelse:\n    c\n",
    "brackets": "def f():\n    a = (|\n1,\n)\n    b^\nc\n",
    "string": 'def f():\n    """A.|\n\nB\n"""\n    b^\nc\n',
    "string begun after the cursor": 'def f():\n    |a = """\nB\n"""^\nc\n',
    "continued line": "def f():\n    a = 1 + \\|\n2^\nc\n",
    "module": "a = 1\n|b = 2\nc = 3\n",
    "first block of the module": "a = |1\n\n@x\ndef f():\n    b^\n\nc = 3\n",
    "one-line body": "def f():\n    if a: |b\n    c^\nd\n",
    "decorated methods": "class A:\n    |@x\n    def f(self):\n        a\n    b = 1^\n\nc\n",
    "tabs": "def f():\n\ta|\n\tb^\nc\n",
    "crlf": "def f():\r\n    a|\r\n    b^\r\n\r\nc\r\n",
}
FUNCTION = {
    "nested blocks": "def f():\n    for x in y:\n        a|\n    b^\n\nc\n",
    "header": "    def f|(self):\n        a^\n\n    def g(self):\n        b\n",
    "else is within": "def f():\n    if a:\n        b|\n    else:\n        c\n    d^\ne\n",
    "inner function": "def f():\n    def g():\n        a|\n        b^\n    return g\n",
    "written inner function": "def f():\n    |def g():\n        a\n    return g^\nb\n",
    "async": "async def f():\n    a|\n    b^\nc\n",
    "written method": "class A:\n    x = 1\n\n    |def f(self):\n        a^\n\n    def g(self):\n",
    "first method": 'class A:\n    |"""A."""\n\n    def f(self):\n        a^\n\n    def g(self):\n',
    "rest of a class": "class A:\n    x = 1\n    |y = 2^\n\nb = 3\n",
    "whole class": "class A|:\n    def f(self):\n        a\n\n    def g(self):\n        b^\n\nc\n",
    "first function of the module": "a = 1\n|b = 2\n\ndef f():\n    c^\n\ndef g():\n",
    "decorators": "@a\n@b(\n1)\n|@c\ndef f():\n    d^\n@a\ndef g():\n",
    "no function": "a = 1\n|for x in y:\n    b\nc = 2\n",
    "docstring": 'def f():\n    """A.\n|\nB\n    """\n    a^\nb\n',
}
CASES = [
    pytest.param(unit, marked, id=f"{unit}: {name}")
    for unit, table in (("block", BLOCK), ("function", FUNCTION))
    for name, marked in table.items()
]
WORDS = ("if a", "else", "elif b", "def f()", "class A", "return", "x", "é", "@", "#", "\\", ":")
BLANKS = ("    ", "\n", "\n", " ", "\t")
CODE = st.lists(st.sampled_from([*WORDS, *BLANKS, "(", ")", '"""', "'"]), max_size=40).map("".join)
CUTS = st.lists(st.integers(0, 200), max_size=10)
UNIT = st.sampled_from(UNITS)


def split(text: str, cuts: list[int]) -> list[str]:
    """The text in pieces, some of them empty."""
    ends = [*sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def feed(matcher: BlockMatcher | TextEnd, pieces: list[str]) -> str:
    """All that the matcher lets through."""
    shown = ""
    for piece in pieces:
        shown += matcher.push(piece)
        if matcher.stopped:
            break
    return shown + matcher.flush()


@pytest.mark.parametrize(("unit", "marked"), CASES)
def test_unit_ends(unit: str, marked: str) -> None:
    before, text = marked.split("|")
    expected = text.find("^") if "^" in text else None

    assert find_end(before, text.replace("^", ""), unit) == expected


@pytest.mark.parametrize(("unit", "marked"), CASES)
def test_unit_ends_alike_in_single_characters(unit: str, marked: str) -> None:
    before, text = marked.split("|")
    whole, _, _ = text.partition("^")

    assert feed(BlockMatcher(before, unit), [*text.replace("^", "")]) == whole


@given(CODE, CODE, UNIT, CUTS)
def test_pieces_change_nothing(before: str, text: str, unit: str, cuts: list[int]) -> None:
    matcher = BlockMatcher(before, unit)
    shown = feed(matcher, split(text, cuts))

    end = find_end(before, text, unit)

    assert shown == text[:end]
    assert matcher.stopped == (end is not None)


@given(CODE, CODE, CODE, UNIT)
def test_later_text_never_moves_an_end(before: str, text: str, more: str, unit: str) -> None:
    end = find_end(before, text, unit)

    assert end is None or end == find_end(before, text + more, unit)


@given(CODE, CODE, UNIT)
def test_end_stands_between_a_character_and_a_newline(before: str, text: str, unit: str) -> None:
    end = find_end(before, text, unit)

    if end:
        rest = text[end:]
        assert not text[end - 1].isspace()
        assert "\n" in rest[: len(rest) - len(rest.lstrip())]


@given(CODE, CODE, UNIT)
def test_only_blanks_and_the_word_else_are_held_back(before: str, text: str, unit: str) -> None:
    matcher = BlockMatcher(before, unit)
    shown = matcher.push(text)

    if not matcher.stopped:
        held = text.removeprefix(shown).strip()
        assert any(word.startswith(held) for word in ("else", "elif", "except", "finally"))


@pytest.mark.parametrize("name", ["engine/core.py", "engine/client.py", "server.py"])
@pytest.mark.parametrize("unit", UNITS)
def test_function_ends_where_pythons_parser_says(name: str, unit: str) -> None:
    source = (ROOT / "nanotriton" / name).read_text() + "END = 1\n"
    lines = source.splitlines()
    functions = [one for one in ast.walk(ast.parse(source)) if isinstance(one, ast.FunctionDef)]
    assert len(functions) > 10
    for function in functions:
        before, text = "\n".join(lines[: function.lineno]), "\n".join(lines[function.lineno :])
        end = find_end(before, f"\n{text}", unit)
        last = function.lineno + f"\n{text}"[:end].count("\n")
        while lines[last - 1].lstrip().startswith("#"):  # the parser sees no comments
            last -= 1
        assert last == function.end_lineno


@pytest.mark.parametrize("num_cut", range(6))
def test_prompt_may_begin_anywhere_even_in_a_docstring(num_cut: int) -> None:
    docstring = '    """Do a.\n\n    It does: b\n    for c\n    """\n'
    source = f"def f():\n{docstring}    return 1\n\ndef g():\n    a = "
    before = "".join(source.splitlines(keepends=True)[num_cut:])

    assert find_end(before, "2\n    b\n\nc = 3\n", "function") == len("2\n    b")


@pytest.mark.parametrize("quote", ['"""', "'''"])
def test_cursor_may_stand_in_a_docstring(quote: str) -> None:
    before = f"import a\n\ndef f(b):\n    {quote}Return"

    assert find_end(before, f" b.\nc\n{quote}\n    return b\nx = 1\n", "function") == (
        len(f" b.\nc\n{quote}\n    return b")
    )


@given(CODE, CUTS)
def test_line_ends_before_its_newline(text: str, cuts: list[int]) -> None:
    ends = TextEnd((), "line")

    assert feed(ends, split(text, cuts)) == text.partition("\n")[0]
    assert ends.stopped == ("\n" in text)


@pytest.mark.parametrize("text", ["a\r\nb", "a\rb", "a\nb"])
def test_line_ends_before_any_newline(text: str) -> None:
    assert feed(TextEnd((), "line"), [text]) == "a"


@given(
    CODE, CODE, UNIT, st.lists(st.sampled_from(["x", "\n\n", "return", "f()"]), max_size=2), CUTS
)
def test_stop_strings_and_units_end_at_what_comes_first(
    before: str, text: str, unit: str, stops: list[str], cuts: list[int]
) -> None:
    shown = feed(TextEnd(stops, unit, before), split(text, cuts))

    by_strings = feed(TextEnd(stops), [text])
    assert shown == by_strings[: find_end(before, by_strings, unit)]
