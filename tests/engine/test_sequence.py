"""Where a sequence ends: at special tokens, and with the unit that the prompt's text tells."""

import pytest

from nanotriton.engine.request import Request, Settings
from nanotriton.engine.sequence import Sequence
from nanotriton.infill import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, Markers
from nanotriton.tokenizer import END_OF_TEXT, Tokenizer

NAMES = (END_OF_TEXT, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE)
SPECIAL = {name: 128 + number for number, name in enumerate(NAMES)}
MARKERS = Markers.of(SPECIAL)
# One token a character, and the special ones after them.
ASCII = Tokenizer(
    lambda text: [*text.encode()], (*(bytes([one]) for one in range(128)), *[b""] * 4), SPECIAL
)


def run(prompt: list[int], tokens: list[int], **settings: object) -> tuple[str, str | None]:
    """Text and finish reason of a sequence for which these tokens are picked."""
    request = Request((b"", 1), tuple(prompt), Settings(**settings))  # type: ignore[arg-type]
    sequence = Sequence(request, ASCII, context=256, seed=1, arrived_s=0.0)
    text = ""
    for token in tokens:
        text += sequence.accept((token,)).text
        if sequence.finish_reason:
            break
    return text, sequence.finish_reason


@pytest.mark.parametrize("name", NAMES)
def test_special_token_ends_the_text_and_shows_nothing(name: str) -> None:
    tokens = [*b"ab", SPECIAL[name], *b"cd"]

    assert run([*b"x"], tokens) == ("ab", "stop")
    assert run([*b"x"], tokens, ignore_eos=True, max_tokens=5) == ("abcd", "length")


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        ("none", "1\n\n  b\n\n c\nd"),
        ("line", "1"),
        ("block", "1\n\n  b"),
        ("function", "1\n\n  b\n\n c"),
    ],
)
def test_unit_is_that_of_the_text_before_the_hole(unit: str, text: str) -> None:
    before, after = [*b"def f():\n if a:\n  b = "], [*b"class A:\n    def g():\n        h"]

    shown, reason = run(MARKERS.arrange(before, after), [*b"1\n\n  b\n\n c\nd"], stop_at=unit)

    assert shown == text
    assert reason == (None if unit == "none" else "stop")


def test_what_a_unit_holds_back_comes_at_the_end() -> None:
    tokens = [*b"1\n\n "]

    assert run([*b"def f(): "], tokens, stop_at="block", max_tokens=4) == ("1\n\n ", "length")


def test_unit_is_that_of_the_text_with_what_healing_took_back() -> None:
    settings = Settings(stop_at="block", token_healing=True)
    request = Request((b"", 1), tuple(b"def f():"), settings, missing=b"\n if a:\n  b")
    sequence = Sequence(request, ASCII, context=256, seed=1, arrived_s=0.0)
    written = [sequence.accept((token,)) for token in b"\n if a:\n  b = 1\n c"]

    assert "".join(one.text for one in written) == " = 1"
    assert sequence.finish_reason == "stop"
    assert sequence.num_prompt == len("def f():\n if a:\n  b")
