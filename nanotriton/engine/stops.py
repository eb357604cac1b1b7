"""Where a completion's text ends: stop strings, matched across tokens, and the end of its unit.

Comes in: pieces of text. Goes out: the part that may be shown. Knows nothing of tokens.
"""

from collections.abc import Sequence

from nanotriton.engine.blocks import UNITS, BlockMatcher

STOP_AT = ("none", "line", *UNITS)
NEWLINES = ("\n", "\r")


class TextEnd:
    """All that may end a text: the first of its stop strings or of its line, block or function.

    Used as StopMatcher is. `before` is the text before the cursor, which tells the block.
    """

    def __init__(self, stops: Sequence[str], stop_at: str = "none", before: str = "") -> None:
        self._strings = StopMatcher(stops)
        self._unit: StopMatcher | BlockMatcher = StopMatcher(NEWLINES if stop_at == "line" else ())
        if stop_at in UNITS:
            self._unit = BlockMatcher(before, stop_at)

    @property
    def stopped(self) -> bool:
        """Whether the end came."""
        return self._strings.stopped or self._unit.stopped

    def push(self, text: str) -> str:
        """Take new text, return what may be shown now."""
        shown = self._unit.push(self._strings.push(text))
        return shown + self._unit.flush() if self._strings.stopped else shown

    def flush(self) -> str:
        """Return what was held back, at the end of a completion that nothing here ended."""
        if self.stopped:
            return ""
        return self._unit.push(self._strings.flush()) + self._unit.flush()


class StopMatcher:
    """Holds back text that may be the beginning of a stop string until that is decided.

    The pieces that `push` and `flush` return, joined, are the whole text up to the first stop
    string, which is left out itself. The first is the one that ends first (of two that end
    together the longer one), so how the text is split into pieces changes nothing.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Take new text, return what may be shown now; sets `stopped` when a stop string came."""
        if not self._stops:
            return text
        self._held += text
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            _, start = min(found)
            shown, self._held = self._held[:start], ""
            return shown
        cut = len(self._held) - max(self._overlap(stop) for stop in self._stops)
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """Return what was held back, at the end of a completion that no stop string ended."""
        shown, self._held = self._held, ""
        return shown

    def _overlap(self, stop: str) -> int:
        """Length of the longest end of the held text that begins `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if self._held.endswith(stop[:n])), 0)
