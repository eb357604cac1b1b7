"""Python source in; its functions, cut at a line, out; and where a completed function ends.

Pure functions over text. Knows nothing of tokens or of models.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MIN_BODY_LINES, MAX_BODY_LINES = 3, 60  # a shorter body has no inside, a longer one no near end
MIN_HOLE_CHARS = 3  # a line of a bracket or two is no test of anything
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_CODE_LINE = re.compile(r"^([ \t]*)\S", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Function:
    """Where one function stands in ``source``; lines count from 1, ``last_line`` is its own."""

    source: str
    first_line: int  # the one of `def`, below the decorators
    body_line: int
    last_line: int
    code_lines: tuple[int, ...]  # of its body, where a statement begins; docstrings left out

    @property
    def num_lines(self) -> int:
        """Of the body."""
        return self.last_line - self.body_line + 1


@dataclass(frozen=True, slots=True)
class Cut:
    """A function cut before a line of its body; ``before`` + ``after`` is the whole file."""

    before: str
    after: str
    head: str  # the end of ``before``, from `def` on
    indent: int  # of `def`, in columns

    def parses_with(self, completion: str) -> bool:
        """Whether the function, so completed, is Python."""
        # An indented function parses as it stands once it is somebody's body.
        opening = "if True:\n" if self.indent else ""
        return parse(opening + self.head + completion) is not None


@dataclass(frozen=True, slots=True)
class Hole:
    """A file with one line taken out: ``prefix`` ends with its indent, ``suffix`` begins a line."""

    prefix: str
    line: str
    suffix: str


@dataclass(frozen=True, slots=True)
class Trimmed:
    """A completion up to the end of its function; ``ended`` says whether it came that far."""

    text: str
    ended: bool


def parse(source: str) -> ast.Module | None:
    """The syntax tree, or None for what is not Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old string escapes warn, and are none of our business
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def find_functions(source: str) -> list[Function]:
    """Functions and methods with MIN_BODY_LINES to MAX_BODY_LINES lines below their header."""
    tree = parse(source)
    nodes = ast.walk(tree) if tree else iter(())
    functions = (_describe(node, source) for node in nodes if isinstance(node, _FUNCTIONS))
    return [f for f in functions if f and MIN_BODY_LINES <= f.num_lines <= MAX_BODY_LINES]


def _describe(node: ast.FunctionDef | ast.AsyncFunctionDef, source: str) -> Function | None:
    """None when the body begins on the header's line."""
    first = node.body[0]
    decorators = first.decorator_list if isinstance(first, (*_FUNCTIONS, ast.ClassDef)) else []
    begin: ast.stmt | ast.expr = decorators[0] if decorators else first
    line_before_it = source.split("\n")[begin.lineno - 1][: begin.col_offset]
    if line_before_it.strip(" \t\f@"):
        return None
    code_lines = tuple(sorted({statement.lineno for statement in _statements(node)}))
    return Function(source, node.lineno, begin.lineno, node.end_lineno or 0, code_lines)


def _statements(node: ast.AST) -> Iterator[ast.stmt]:
    """All below ``node`` but docstrings and other strings that stand alone."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.stmt) and inner is not node and not _is_string(inner):
            yield inner


def _is_string(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def cut_before(function: Function, line: int) -> Cut:
    """The function without the lines from ``line`` on."""
    lines = [text + "\n" for text in function.source.split("\n")]
    header = lines[function.first_line - 1].expandtabs()
    return Cut(
        before="".join(lines[: line - 1]),
        after="".join(lines[line - 1 :]),
        head="".join(lines[function.first_line - 1 : line - 1]),
        indent=len(header) - len(header.lstrip()),
    )


def take_out(function: Function, line: int) -> Hole:
    """The function's file with the text of one line missing, its indent and newline kept."""
    lines = function.source.split("\n")
    text = lines[line - 1]
    indent = text[: len(text) - len(text.lstrip())]
    before, after = lines[: line - 1], lines[line:]
    return Hole("\n".join([*before, indent]), text.strip(), "\n".join(["", *after]))


def trim(completion: str, indent: int, is_whole: bool = False) -> Trimmed:
    """``completion``, which begins a line, up to the function's end.

    That is the first line of code or comment indented no more than its `def` (a string that spans
    lines and leaves its indent ends it too). Where it never comes, an unfinished last line is
    dropped, unless the completion ``is_whole``: the file ends there.
    """
    for match in _CODE_LINE.finditer(completion):
        if len(match[1].expandtabs()) <= indent:
            return Trimmed(completion[: match.start()], ended=True)
    if is_whole:
        return Trimmed(completion, ended=True)
    return Trimmed(completion[: completion.rfind("\n") + 1], ended=False)


def draw_cuts(
    functions: Sequence[Function], count: int, generator: np.random.Generator
) -> list[Cut]:
    """At most ``count`` different functions, each cut before a random line of its body.

    Kept are those that parse with their own true rest, so that 100 % can be reached.
    """
    cuts: list[Cut] = []
    for index in generator.permutation(len(functions)):
        function = functions[index]
        cut = cut_before(
            function, int(generator.integers(function.body_line, function.last_line + 1))
        )
        if cut.parses_with(trim(cut.after, cut.indent, is_whole=True).text):
            cuts.append(cut)
        if len(cuts) == count:
            break
    return cuts


def draw_holes(
    functions: Sequence[Function], count: int, generator: np.random.Generator
) -> list[Hole]:
    """At most ``count`` different functions, each with one random line of code taken out."""
    holes: list[Hole] = []
    for index in generator.permutation(len(functions)):
        function = functions[index]
        if not function.code_lines:
            continue
        hole = take_out(function, int(generator.choice(function.code_lines)))
        if len(hole.line) >= MIN_HOLE_CHARS:
            holes.append(hole)
        if len(holes) == count:
            break
    return holes
