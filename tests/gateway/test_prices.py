"""Prices: which rule decides, what a request costs to the millionth, and files that are refused."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.account.prices import Prices, load_prices, to_micros
from gateway.errors import ConfigError
from gateway.messages import Outcome, Served, Usage

INT8 = Served("stable", "demo", "1", "int8")
FP32 = Served("canary", "demo", "2", "fp32")
OTHER = Served("other", "other", "1", "fp16")
RULES: list[dict[str, Any]] = [
    {
        "model": "demo",
        "precision": "int8",
        "prompt_per_million": "0.05",
        "completion_per_million": "0.20",
    },
    {
        "model": "demo",
        "precision": "*",
        "machine_per_hour": "0.36",
        "prompt_tokens_per_s": 2000,
        "completion_tokens_per_s": 500,
    },
]
FILE: dict[str, Any] = {"currency": "USD", "dated": "2026-11-21", "cached_share": "0"}


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    return read(tmp_path, FILE | {"rules": RULES})


def read(folder: Path, told: Any) -> Prices:
    path = folder / "prices.json"
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    return load_prices(path)


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        (INT8, 100 * Decimal("0.05") + 1000 * Decimal("0.2")),
        # 0.36 an hour are 100 millionths a second: 0.05 a token read, 0.2 a token written.
        (FP32, 100 * Decimal("0.05") + 1000 * Decimal("0.2")),
        (OTHER, 0),
        (None, 0),
    ],
    ids=["by token", "by machine", "no rule", "nobody"],
)
def test_first_rule_that_fits_decides(
    prices: Prices, served: Served | None, expected: Decimal
) -> None:
    assert prices.cost_micros(served, Usage(100, 1000), "ok") == expected


@pytest.mark.parametrize(
    ("tokens", "expected"), [(1, 0), (2, 0), (3, 1), (5, 1), (13, 3)],
    ids=["0.2", "0.4", "0.6", "1.0", "2.6"],
)  # fmt: skip
def test_cost_is_rounded_once_a_request(prices: Prices, tokens: int, expected: int) -> None:
    assert prices.cost_micros(INT8, Usage(0, tokens), "ok") == expected


def test_half_a_millionth_goes_to_the_even_one(prices: Prices) -> None:
    assert [prices.cost_micros(INT8, Usage(n, 0), "ok") for n in (10, 30, 50)] == [0, 2, 2]


@pytest.mark.parametrize(
    ("outcome", "share", "expected"),
    [
        ("ok", "0", 205),
        ("cached", "0", 0),
        ("cached", "0.1", 20),
        ("typeahead", "1", 205),
        ("superseded", "0", 205),
        ("disconnected", "0", 205),
        ("failed", "0", 205),
        ("refused", "0", 0),
        ("interrupted", "0", 0),
    ],
)
def test_outcome_decides_what_is_charged(
    tmp_path: Path, outcome: Outcome, share: str, expected: int
) -> None:
    prices = read(tmp_path, FILE | {"cached_share": share, "rules": RULES})
    assert prices.cost_micros(INT8, Usage(100, 1000), outcome) == expected


@given(
    st.integers(0, 10**6), st.integers(0, 10**6),
    st.decimals(0, 1000, places=6), st.decimals(0, 1000, places=6),
)  # fmt: skip
def test_cost_is_exact_to_half_a_millionth(
    prompt: int, completion: int, prompt_price: Decimal, completion_price: Decimal
) -> None:
    table = load_prices()
    rule = table.rules[0].__class__("*", "*", prompt_price, completion_price)
    cost = Prices("USD", table.dated, Decimal(0), (rule,)).cost_micros(
        INT8, Usage(prompt, completion), "ok"
    )
    assert abs(cost - (prompt * prompt_price + completion * completion_price)) <= Decimal("0.5")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ("{", "can't be read"),
        ([], "the file has list: needed are"),
        (FILE, "needed are cached_share, currency, dated, rules"),
        (FILE | {"rules": []}, "at least one"),
        (FILE | {"rules": RULES, "extra": 1}, "has cached_share, currency, dated, extra"),
        (FILE | {"rules": RULES, "currency": "dollars"}, "currency is 'dollars'"),
        (FILE | {"rules": RULES, "dated": "yesterday"}, "dated is 'yesterday'"),
        (FILE | {"rules": RULES, "cached_share": 2}, "the most is 1"),
        (FILE | {"rules": [RULES[0] | {"prompt_per_million": -1}]}, "rule 1: prompt_per_million"),
        (FILE | {"rules": [RULES[0] | {"prompt_per_million": "a lot"}]}, "give a number"),
        (FILE | {"rules": [RULES[0] | {"prompt_per_million": True}]}, "give a number"),
        (FILE | {"rules": [RULES[0] | {"model": ""}]}, "give a name, or"),
        (FILE | {"rules": [RULES[1] | {"completion_tokens_per_s": 0}]}, "that were measured"),
        (json.dumps(FILE | {"rules": [RULES[0] | {"prompt_per_million": float("nan")}]}), "NaN"),
        (json.dumps(FILE | {"rules": [RULES[0] | {"prompt_per_million": 1e400}]}), "Infinity"),
    ],
)
def test_file_that_makes_no_sense_is_refused(tmp_path: Path, told: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, told)


def test_shipped_prices_can_be_read() -> None:
    assert load_prices().currency == "USD"


def test_budget_is_turned_to_millionths_without_a_binary_rest() -> None:
    assert to_micros(0.1) == 100_000
    assert to_micros(29.99) == 29_990_000
