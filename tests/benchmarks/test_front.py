"""What stands in front of a peer's model: its thread, and the text of an answer."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.peers.desk import Desk, ModelError
from benchmarks.peers.front import Answer
from nanotriton.tokenizer import TextDecoder, load_tokenizer

ROOT = Path(__file__).parent.parent.parent
TOKENIZER = load_tokenizer(ROOT / "demo")


class Script:
    """Says the same tokens to everybody, one a step; a text among them is what it fails with."""

    def __init__(self, *tokens: int | str) -> None:
        self._tokens = tokens
        self._said: dict[int, int] = {}
        self.given_up: list[int] = []

    def add(self, key: int, _prompt: Sequence[int], _num_new: int) -> None:
        """From the beginning."""
        self._said[key] = 0

    def cancel(self, key: int) -> None:
        """Told to the test."""
        del self._said[key]
        self.given_up.append(key)

    def step(self) -> list[tuple[int, int]]:
        """The next one."""
        found = []
        for key, place in list(self._said.items()):
            if place < len(self._tokens):
                token = self._tokens[place]
                if isinstance(token, str):
                    raise ValueError(token)
                found.append((key, token))
                self._said[key] += 1
        return found


async def answer(desk: Desk, num_new: int, end: int | None) -> list[dict[str, object] | str]:
    """The events of one answer."""
    events = Answer(TextDecoder(TOKENIZER.table), end).events(desk, [1, 2, 3], num_new)
    told = [event.removeprefix("data: ").strip() async for event in events]
    return [one if one == "[DONE]" else json.loads(one) for one in told]


def text_of(events: list[dict[str, object] | str]) -> str:
    """All pieces."""
    return "".join(one["choices"][0]["text"] for one in events if one != "[DONE]")


@pytest.mark.parametrize(
    ("ends", "text", "reason"),
    [(True, "def fib", "stop"), (False, "def fib(n", "length")],
    ids=["heeded", "ignored"],
)
def test_end_of_text_ends_an_answer_unless_it_is_ignored(ends, text, reason):
    end = TOKENIZER.end_of_text
    words = TOKENIZER.encode("def fib"), TOKENIZER.encode("(n")
    script = [*words[0], end, *words[1]]

    events = asyncio.run(answer(Desk(lambda: Script(*script)), len(script), end if ends else None))

    assert text_of(events) == text
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["finish_reason"] == reason
    assert events[-2]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": len(words[0]) if ends else len(script),
    }


def test_failed_model_is_told_to_who_waits_and_to_who_comes_later():
    desk = Desk(lambda: Script(5, "no such token"))

    first, later = (asyncio.run(answer(desk, 3, None)) for _ in range(2))

    told = {"error": {"message": "ValueError: no such token"}}
    assert (first[-1], later) == (told, [told])


def test_answer_that_is_left_is_given_up():
    model = Script(*range(50, 60), *[60] * 100_000)

    async def leave() -> None:
        desk = Desk(lambda: model)
        steps = desk.tokens([1], 90_000)
        await anext(steps)
        await steps.aclose()
        assert [one async for one in desk.tokens([1], 1)] == [[50]]  # a later one is served

    asyncio.run(leave())

    assert model.given_up == [0]


def test_model_that_can_not_be_opened_is_told_to_who_waits_for_it():
    def fail() -> Script:
        raise FileNotFoundError("no weights")

    with pytest.raises(FileNotFoundError, match="no weights"):
        Desk(fail).wait_open()


def test_error_of_a_model_is_raised_to_who_reads_tokens():
    async def read() -> None:
        async for _ in Desk(lambda: Script("gone")).tokens([1], 1):
            pass

    with pytest.raises(ModelError, match="gone"):
        asyncio.run(read())
