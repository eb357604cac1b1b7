"""Characters of indented code in, its logical lines out: how far in each starts, how it begins.

A logical line is Python's: it runs on through brackets, multi-line strings and a backslash at a
line's end. Blank lines and lines with only a comment are none. Of other languages only the
indentation is read well; a string that its line leaves open ends there, so that an apostrophe does
no harm beyond its line. Knows nothing of tokens or of stopping.
"""

from dataclasses import dataclass

TAB = 8  # a tab goes on to the next multiple, as in Python
DEFINITIONS = ("def", "class")


@dataclass(frozen=True, slots=True)
class Line:
    """One logical line: columns before it, its first word (or character), whether ":" ends it.

    The first word of `async def` is `def`.
    """

    indent: int
    word: str
    opens: bool

    @property
    def is_definition(self) -> bool:
        """Whether it begins a function or a class."""
        return self.word in DEFINITIONS


class LineScanner:
    """Reads code character by character; how it is split into pieces changes nothing.

    `is_begun` says whether the logical line at hand has a first character, `indent` and `word` what
    is known of it, `is_word_whole` whether `word` can grow no more.
    """

    def __init__(self) -> None:
        self._quote = ""  # the quotation mark of the string at hand
        self._num_quotes = 0  # such marks in a row: of a string that opens, or in a triple one
        self._is_open = False  # inside the string, past its opening marks
        self._is_triple = False
        self._is_escaped = False  # by a backslash just before
        self._is_comment = False
        self._depth = 0  # open brackets
        self._next_line()

    def _next_line(self) -> None:
        self.indent = 0
        self.is_begun = False
        self.word = ""
        self.is_word_whole = False
        self._last = ""  # the last character that is neither blank nor comment

    def starts(self, char: str) -> bool:
        """Whether `char`, not yet pushed, is the first of a logical line or of a comment line."""
        return not self.is_begun and not self._is_comment and not char.isspace()

    def push(self, char: str) -> Line | None:
        """Take one character; the line that ended with it, if one did."""
        if self._quote and self._take_quoted(char):
            return None
        if char == "\n":
            return self._end_line()
        if self._is_comment:
            return None
        if not self.is_begun and char.isspace():
            self._indent_by(char)
        elif char == "#":
            self._is_comment = True
            self.is_word_whole = self.is_begun
        else:
            self._take_code(char)
        return None

    def _indent_by(self, char: str) -> None:
        if char == "\t":
            self.indent += TAB - self.indent % TAB
        elif char == " ":
            self.indent += 1

    def _take_code(self, char: str) -> None:
        self.is_begun = True
        if not self.is_word_whole:
            self._take_word(char)
        if char in "\"'":
            self._quote, self._num_quotes = char, 1
            self._is_open = self._is_triple = self._is_escaped = False
        elif char in "([{":
            self._depth += 1
        elif char in ")]}":
            self._depth = max(self._depth - 1, 0)
        if not char.isspace():
            self._last = char

    def _take_word(self, char: str) -> None:
        if char.isidentifier() or (self.word and char.isalnum()):
            self.word += char
        elif self.word in ("", "async") and char.isspace():
            self.word = ""
        else:
            self.word = self.word or char
            self.is_word_whole = True

    def _take_quoted(self, char: str) -> bool:
        """Take a character of a string, its marks included; False when it is code after it."""
        if not self._is_open:
            if char == self._quote:
                self._num_quotes += 1
                self._is_open = self._is_triple = self._num_quotes == 3
                self._num_quotes %= 3
                return True
            if self._num_quotes == 2:  # an empty string
                self._quote = ""
                return False
            self._is_open = True
        if self._is_escaped:
            self._is_escaped = False
        elif char == "\\":
            self._is_escaped = True
            self._num_quotes = 0
        elif self._is_triple:
            self._num_quotes = self._num_quotes + 1 if char == self._quote else 0
            if self._num_quotes == 3:
                self._quote = ""
        elif char in (self._quote, "\n"):
            self._quote = ""
            return char != "\n"
        return True

    def _end_line(self) -> Line | None:
        self._is_comment = False
        if self.is_begun and (self._depth or self._last == "\\"):
            self.is_word_whole = True
            self._last = ""
            return None
        line = Line(self.indent, self.word, self._last == ":") if self.is_begun else None
        self._next_line()
        return line
