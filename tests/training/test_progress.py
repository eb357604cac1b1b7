"""Progress: a bar on a terminal, plain lines elsewhere, and every item passed on."""

import io

from training.progress import LINE_EVERY_S, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_come_now_and_then() -> None:
    stream = io.StringIO()
    times = iter(range(0, 1000, int(LINE_EVERY_S) // 2))

    items = list(track("abcd", 4, "letters", stream, clock=lambda: float(next(times))))

    assert items == list("abcd")
    assert stream.getvalue().splitlines() == ["letters: 1 of 4", "letters: 3 of 4"]


def test_quick_work_says_nothing() -> None:
    stream = io.StringIO()

    assert list(track(range(3), 3, "numbers", stream)) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_terminal_shows_a_bar() -> None:
    stream = Terminal()

    assert list(track(range(3), 3, "numbers", stream)) == [0, 1, 2]
    assert "numbers" in stream.getvalue()
    assert "3/3" in stream.getvalue()
