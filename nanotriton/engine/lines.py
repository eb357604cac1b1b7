"""Characters of indented code in, its logical lines out: how far in each starts, how it begins.

A logical line is Python's: it runs on through brackets, multi-line strings and a backslash at a
line's end. Blank lines and lines with only a comment are none. Of other languages only the
indentation is read well; a string that its line leaves open ends there, so that an apostrophe does
no harm beyond its line. Knows nothing of tokens or of stopping.
"""

from dataclasses import dataclass

TRIPLE_QUOTES = ('"""', "'''")
# First words of lines of code: of those that ":" ends, and of others that prose seldom begins with.
HEADERS = ("def", "class", "if", "elif", "else", "for", "while", "try", "except", "finally", "with")
STATEMENTS = ("return", "import", "from", "raise", "yield", "pass", "break", "continue", "@")
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


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as one way to read it has it: its whole lines, and the scanner where it ends."""

    lines: list[Line]
    scanner: "LineScanner"

    @property
    def num_code_lines(self) -> int:
        """Lines that look like code, not like prose; the one at hand too."""
        at_hand = self.scanner.word in (*HEADERS, *STATEMENTS)
        return at_hand + sum(
            line.word in STATEMENTS or (line.opens and line.word in HEADERS) for line in self.lines
        )


def read_lines(text: str) -> Reading:
    """Read code that may begin anywhere, in a docstring too, as a prompt that was cut does.

    Where it seems to end inside a multi-line string, that may be a mistaken beginning: then, of all
    ways to read it, the one that finds most code; the plain one when nothing speaks against it.
    """
    plain = _read(text)
    if not plain.scanner.is_in_docstring:
        return plain
    others = (_read(text, inside) for inside in TRIPLE_QUOTES if inside in text)
    return max((plain, *others), key=lambda one: one.num_code_lines)


def _read(text: str, inside: str = "") -> Reading:
    scanner = LineScanner(inside)
    return Reading([line for char in text if (line := scanner.push(char))], scanner)


class LineScanner:
    """Reads code character by character; how it is split into pieces changes nothing.

    `is_begun` says whether the logical line at hand has a first character, `indent` and `word` what
    is known of it, `is_word_whole` whether `word` can grow no more. `inside` is the triple quote of
    the string that the text begins in, if it does.
    """

    def __init__(self, inside: str = "") -> None:
        self._quote = ""  # the quotation mark of the string at hand
        self._num_quotes = 0  # such marks in a row: of a string that opens, or in a triple one
        self._is_open = False  # inside the string, past its opening marks
        self._is_triple = False
        self._is_escaped = False  # by a backslash just before
        self._is_comment = False
        self._depth = 0  # open brackets
        self._next_line()
        if inside:
            self._take_code(inside[0])
            self._is_open = self._is_triple = True
            self._num_quotes = 0

    def _next_line(self) -> None:
        self.indent = 0
        self.is_begun = False
        self.word = ""
        self.is_word_whole = False
        self._last = ""  # the last character that is neither blank nor comment

    @property
    def is_in_docstring(self) -> bool:
        """Whether a string between triple quotes is open."""
        return bool(self._quote) and self._is_triple

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
