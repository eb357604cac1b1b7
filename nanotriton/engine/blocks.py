"""Where a completion of indented code ends: with its block, or with its function.

Comes in: the text before the cursor, then the generated text in pieces. Goes out: the part that
may be shown. Pure; knows nothing of tokens or requests.

The rule. Only logical lines count (see `lines`): a line inside brackets or a multi-line string ends
nothing. The text ends before the first line, comments included, that is indented less than the
unit's lines; the newline and the blank lines before it are left out. The unit is
- `block`: the block that the cursor's line opens with its last ":", else the one it stands in. A
  line that is first written after the cursor only stands in its block, whatever it opens. The
  `else`, `elif`, `except` and `finally` of the block's own statement go on with it. Nothing ends
  the module; there the unit is the first block that is opened.
- `function`: the function around the cursor, or the `def` or `class` whose first line the cursor
  is in. In a class's body, outside its functions, it is the first function that is written, or
  what is left of the class. Outside of all it is the first `def` or `class` that is written, its
  decorators before it.
A cursor on an empty line right after a line that opens a block stands in that block.
"""

from nanotriton.engine.lines import Line, read_lines

UNITS = ("block", "function")

# First words of a compound statement's parts, and of those that may follow at its indentation.
CONTINUED_BY = {
    "if": ("elif", "else"),
    "elif": ("elif", "else"),
    "for": ("else",),
    "while": ("else",),
    "try": ("except", "finally"),
    "except": ("except", "else", "finally"),
    "else": ("finally",),
}


def find_end(before: str, text: str, unit: str) -> int | None:
    """Characters of `text`, generated after `before`, that belong to the unit; None for all."""
    matcher = BlockMatcher(before, unit)
    shown = matcher.push(text)
    return len(shown) if matcher.stopped else None


class BlockMatcher:
    """Holds back blanks, and words that may yet end the unit, until that is decided.

    The pieces that `push` and `flush` return, joined, are the text up to the unit's end, however
    the text was split. `stopped` says that the end came.
    """

    def __init__(self, before: str, unit: str) -> None:
        assert unit in UNITS, unit
        self._is_function = unit == "function"
        reading = read_lines(before)
        self._lines = reading.scanner
        self._enclosing: list[Line] = []  # the lines around the newest one and itself
        self._opener: Line | None = None  # the line that opened the unit, when it is known
        self._least_indent = 0  # of the unit's lines
        self._is_decided = False  # no later line changes the unit
        self._is_pending = False  # a line that may go on with the opener's statement has begun
        self._held = ""
        self.stopped = False
        for line in reading.lines:
            self._enter(line)
        self._is_in_line = self._lines.is_begun  # the cursor
        last = self._enclosing[-1] if self._enclosing else None
        if last and last.opens and not self._is_in_line:
            if not self._is_function:
                self._decide(last)
            elif last.is_definition:
                self._decide(last, is_final=last.word == "def")

    def push(self, text: str) -> str:
        """Take new text, return what may be shown now; sets `stopped` when the unit has ended."""
        start = len(self._held)
        self._held += text
        solid = 0  # characters that surely belong to the unit
        for index in range(start, len(self._held)):
            char = self._held[index]
            if self._ends_before(char):
                self.stopped = True
                shown, self._held = self._held[:solid], ""
                return shown
            if not self._is_pending and not char.isspace():
                solid = index + 1
        shown, self._held = self._held[:solid], self._held[solid:]
        return shown

    def flush(self) -> str:
        """Return what was held back, at the end of a completion that ended otherwise."""
        shown, self._held = self._held, ""
        return shown

    def _ends_before(self, char: str) -> bool:
        """Take a character; whether the unit ended before the line that it belongs to."""
        starts = self._lines.starts(char)
        indent = self._lines.indent
        line = self._lines.push(char)
        if starts and indent < self._least_indent:
            if not self._may_continue(indent):
                return True
            self._is_pending = True
        if self._is_pending and self._is_other_word(line):
            return True
        if line:
            self._enter(line)
            if not self._is_decided:
                self._find_unit(line)
            elif self._opener and line.indent == self._opener.indent:
                self._opener = line
        return False

    def _may_continue(self, indent: int) -> bool:
        opener = self._opener
        if self._is_function or opener is None or indent != opener.indent:
            return False
        return opener.word in CONTINUED_BY

    def _is_other_word(self, line: Line | None) -> bool:
        """Whether the pending line's word shows that it ends the unit; no longer pending if not."""
        assert self._opener is not None
        allowed = CONTINUED_BY[self._opener.word]
        word = line.word if line else self._lines.word
        if line or self._lines.is_word_whole:
            self._is_pending = False
            return word not in allowed
        return not word or not any(one.startswith(word) for one in allowed)

    def _enter(self, line: Line) -> None:
        while self._enclosing and self._enclosing[-1].indent >= line.indent:
            self._enclosing.pop()
        self._enclosing.append(line)

    def _find_unit(self, line: Line) -> None:
        """Find out from the cursor's line, or a later one, what the unit is."""
        is_in_line, self._is_in_line = self._is_in_line, False
        around = self._enclosing[:-1]
        if self._is_function:
            definition = next((one for one in reversed(around) if one.is_definition), None)
            in_body = definition is not None and definition.word == "def"
            if line.is_definition and (is_in_line or not in_body):
                self._decide(line)
            elif definition:
                self._decide(definition, is_final=in_body)
        elif line.opens and (is_in_line or not line.indent):
            self._decide(line)
        elif line.indent:
            self._opener = around[-1] if around else None
            self._least_indent = line.indent
            self._is_decided = True

    def _decide(self, opener: Line, *, is_final: bool = True) -> None:
        """The unit is what a line opens: all that is indented more than that line."""
        self._opener = opener
        self._least_indent = opener.indent + 1
        self._is_decided = is_final
