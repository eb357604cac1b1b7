"""A peer that says its prompt over and over, for tests of what stands in front of one."""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from benchmarks.peers.serving import Options, serve

STEP_S = 0.01


class Parrot:
    """Says what it gives up, too."""

    def __init__(self, _: Options) -> None:
        self._running: dict[int, Iterator[int]] = {}

    def add(self, key: int, prompt: Sequence[int], num_new: int) -> None:
        """So many of its tokens, from the first one on."""
        self._running[key] = islice(cycle(prompt), num_new)

    def cancel(self, key: int) -> None:
        """Into its log."""
        del self._running[key]
        print(f"gave up {key}", flush=True)

    def step(self) -> list[tuple[int, int]]:
        """A token of each."""
        time.sleep(STEP_S)
        return [
            (key, token) for key, tokens in self._running.items() for token in islice(tokens, 1)
        ]


if __name__ == "__main__":
    sys.exit(serve(Parrot, ("numpy",)))
