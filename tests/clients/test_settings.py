"""What is refused before it is sent, because the wire would spoil it."""

from typing import Any

import numpy as np
import pytest

from clients import InvalidRequest
from clients.tensors import Tensor, request_tensors


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_tokens", 2**31, "max_tokens is 2147483648: at most 2147483647 fits into 32 bits"),
        ("max_tokens", -(2**31) - 1, "fits into 32 bits"),
        ("max_tokens", 1.0, "max_tokens is 1.0: give an integer"),
        ("max_tokens", True, "max_tokens is True: give an integer"),
        ("max_tokens", "1", "max_tokens is '1': give an integer"),
        ("seed", 2**63, "fits into 64 bits"),
        ("temperature", float("nan"), "temperature is nan: give a number that a 32-bit float"),
        ("temperature", float("inf"), "temperature is inf"),
        ("temperature", 1e39, "temperature is 1e"),
        ("temperature", 10**400, "temperature is inf"),
        ("temperature", "1", "temperature is '1': give a number"),
        ("top_p", False, "top_p is False: give a number"),
        ("stop", 1, "stop is of type int: give a str"),
        ("stop", b"a", "stop is of type bytes: give a str"),
        ("stop", ["a", None], "stop is of type NoneType"),
        ("stop", ["a", "\ud800"], r"stop has a lone surrogate, U\+D800, at character 0"),
        ("truncate", ["left"], "truncate is of type list"),
        ("ignore_eos", 1, "ignore_eos is 1: give True or False"),
        ("topk", 1, "there is no setting topk: the settings are max_tokens, "),
    ],
)
def test_value_that_does_not_fit(name: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        request_tensors("hi", {name: value})


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("ab\udc80", r"U\+DC80, at character 2"), (b"ab", "prompt is of type bytes"), (None, "None")],
    ids=["lone surrogate", "bytes", "none"],
)
def test_prompt_that_is_no_text(prompt: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        request_tensors(prompt, {})


def test_numbers_of_numpy_are_taken() -> None:
    _, tokens, temperature = request_tensors(
        "", {"max_tokens": np.int64(3), "temperature": np.float32(0.5)}
    )
    assert tokens == Tensor("max_tokens", "INT32", (3,))
    assert temperature == Tensor("temperature", "FP32", (0.5,))
