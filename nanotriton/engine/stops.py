"""Where a completion's text ends: stop strings, matched across tokens, that never leak.

Comes in: pieces of text. Goes out: the part that may be shown. Knows nothing of tokens.
"""

from collections.abc import Sequence


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
