"""Functions found, cut and trimmed: text in, text out."""

import numpy as np
import pytest

from training.functions import (
    Function,
    cut_before,
    draw_cuts,
    draw_holes,
    find_functions,
    take_out,
    trim,
)

SOURCE = '''\
import os


class Shop:
    @property
    def till(self, a=(1,
                      2)):
        """Money.

        In it.
        """
        if a:
            return 1

        return 2

    async def close(self):
        # goodbye
        @decorate
        def inner():
            pass
        return inner


def short(x): return x


def two(x):
    y = x
    return y


def last(x):
    for i in x:
        print(i)
    return x
'''


def test_functions_with_a_body_of_their_own_are_found() -> None:
    found = {SOURCE.split("\n")[f.first_line - 1].strip(): f for f in find_functions(SOURCE)}

    assert found.keys() == {"def till(self, a=(1,", "async def close(self):", "def last(x):"}
    till, close = found["def till(self, a=(1,"], found["async def close(self):"]
    assert (till.body_line, till.last_line, till.code_lines) == (8, 15, (12, 13, 15))
    assert (close.body_line, close.last_line) == (19, 22)  # the decorator's line


@pytest.mark.parametrize("source", ["def f(:\n", "", "x = 1\x00"], ids=["broken", "empty", "null"])
def test_what_is_no_python_has_no_functions(source: str) -> None:
    assert find_functions(source) == []


def test_cut_parts_the_file_and_keeps_the_function() -> None:
    cut = cut_before(_named("till"), 13)

    assert (cut.before + cut.after).rstrip("\n") == SOURCE.rstrip("\n")
    assert cut.head.startswith("    def till(self")
    assert cut.head.endswith("        if a:\n")
    assert cut.indent == 4


def test_cut_function_parses_only_with_what_it_lacks() -> None:
    cut = cut_before(_named("till"), 13)

    assert cut.parses_with("            return 1\n")
    assert not cut.parses_with("")
    assert not cut.parses_with("            return (\n")


@pytest.mark.parametrize(
    ("completion", "text", "ended"),
    [
        ("        x = 1\n\n    def g():\n", "        x = 1\n\n", True),
        ("        x = 1\n@wraps\n", "        x = 1\n", True),
        ("        x = 1\n    # done\n", "        x = 1\n", True),
        ("    def g():", "", True),
        ("        x = 1\n        y =", "        x = 1\n", False),
        ("        x = 1\n    ", "        x = 1\n", False),
        ("        x", "", False),
        ("\tx = 1\n\ty = 2\n", "\tx = 1\n\ty = 2\n", False),
    ],
    ids=[
        *("next method", "decorator", "comment", "at once", "cut short", "indent only"),
        *("no line", "tabs"),
    ],
)
def test_completion_ends_where_the_indent_does(completion: str, text: str, ended: bool) -> None:
    trimmed = trim(completion, indent=4)

    assert (trimmed.text, trimmed.ended) == (text, ended)


def test_whole_completion_keeps_its_last_line() -> None:
    trimmed = trim("    return x", indent=0, is_whole=True)

    assert (trimmed.text, trimmed.ended) == ("    return x", True)


def test_every_cut_can_be_completed_by_its_own_rest() -> None:
    functions = find_functions(SOURCE)

    cuts = draw_cuts(functions, 10, np.random.default_rng(0))

    assert len(cuts) == 3
    for cut in cuts:
        assert cut.parses_with(trim(cut.after, cut.indent).text)


def test_function_whose_own_rest_fails_the_rule_is_left_out() -> None:
    source = 'def f():\n    x = """\na\nb\n"""\n    return x\n'
    cuts = draw_cuts(find_functions(source) * 20, 100, np.random.default_rng(0))

    assert {cut.head.count("\n") for cut in cuts} == {5}  # below the string


def test_same_seed_draws_the_same_cuts() -> None:
    first, second = (
        draw_cuts(find_functions(SOURCE), 2, np.random.default_rng(7)) for _ in range(2)
    )

    assert first == second


def test_hole_is_a_line_without_its_indent() -> None:
    hole = take_out(_named("till"), 13)

    assert hole.prefix + hole.line + hole.suffix == SOURCE
    assert hole.line == "return 1"
    assert hole.prefix.endswith("if a:\n            ")


def test_holes_are_lines_of_code() -> None:
    drawn = [
        hole.line
        for seed in range(20)
        for hole in draw_holes(find_functions(SOURCE), 3, np.random.default_rng(seed))
    ]

    assert set(drawn) <= {
        *("if a:", "return 1", "return 2", "def inner():", "pass", "return inner"),
        *("for i in x:", "print(i)", "return x"),
    }


def _named(name: str) -> Function:
    lines = SOURCE.split("\n")
    return next(f for f in find_functions(SOURCE) if f"def {name}(" in lines[f.first_line - 1])
