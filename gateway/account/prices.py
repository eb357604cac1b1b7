"""What tokens cost, by model and precision; from a dated JSON file.

Comes in: a price file, then what served a request and its tokens. Goes out: whole millionths of the
file's currency, rounded half to even once a request, so that sums are exact. Knows no key.

    {"currency": "USD", "dated": "2026-11-21", "cached_share": "0", "rules": [
      {"model": "demo", "precision": "int8", "prompt_per_million": "0.05",
       "completion_per_million": "0.20"},
      {"model": "*", "precision": "*", "machine_per_hour": "0.36",
       "prompt_tokens_per_s": "2000", "completion_tokens_per_s": "500"}]}

The first rule that fits decides; `*` fits all. A machine's price is that of an hour over the tokens
that it was measured to read and write a second.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from gateway.errors import ConfigError
from gateway.messages import Outcome, Served, Usage

DEFAULT_FILE = Path(__file__).with_name("prices.json")
MICROS = 1_000_000
_HOUR_S = 3600
_ANY = "*"
_FROM_CACHE: frozenset[Outcome] = frozenset({"cached", "typeahead"})
_FREE: frozenset[Outcome] = frozenset({"refused", "interrupted"})
_TOKEN_KEYS = {"prompt_per_million", "completion_per_million"}
_MACHINE_KEYS = {"machine_per_hour", "prompt_tokens_per_s", "completion_tokens_per_s"}


@dataclass(frozen=True, slots=True)
class Rule:
    """Millionths of the currency that one token costs."""

    model: str
    precision: str
    prompt_micros: Decimal
    completion_micros: Decimal

    def fits(self, served: Served) -> bool:
        """Whether it is this model version's price."""
        return self.model in (_ANY, served.model) and self.precision in (_ANY, served.precision)


@dataclass(frozen=True, slots=True)
class Prices:
    """A price table; `cached_share` of the price is what an answer from a cache costs."""

    currency: str
    dated: date
    cached_share: Decimal
    rules: tuple[Rule, ...]

    def cost_micros(self, served: Served | None, usage: Usage, outcome: Outcome) -> int:
        """What a request cost; what nobody served, and what no rule names, costs nothing."""
        if served is None or outcome in _FREE:
            return 0
        rule = next((one for one in self.rules if one.fits(served)), None)
        if rule is None:
            return 0
        cost = usage.prompt_tokens * rule.prompt_micros
        cost += usage.completion_tokens * rule.completion_micros
        if outcome in _FROM_CACHE:
            cost *= self.cached_share
        return int(cost.quantize(Decimal(1), ROUND_HALF_EVEN))


def load_prices(path: Path = DEFAULT_FILE) -> Prices:
    """Read a price file; raises ConfigError, naming what is wrong in it."""
    try:
        told = json.loads(path.read_text(), parse_float=Decimal, parse_constant=Decimal)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--prices {path} can't be read: {error}") from None
    try:
        return _prices(told)
    except ValueError as error:
        raise ConfigError(f"--prices {path}: {error}") from None


def to_micros(amount: float | Decimal) -> int:
    """An amount of the currency in millionths."""
    return int((Decimal(str(amount)) * MICROS).quantize(Decimal(1), ROUND_HALF_EVEN))


def _prices(told: Any) -> Prices:
    fields = _object("the file", told, {"currency", "dated", "cached_share", "rules"})
    currency, rules = fields["currency"], fields["rules"]
    if not (isinstance(currency, str) and len(currency) == 3 and currency.isupper()):
        raise ValueError(f"currency is {currency!r}: give three capitals, such as USD")
    if not (isinstance(rules, list) and rules):
        raise ValueError("rules is no list of rules: give at least one")
    share = _number("cached_share", fields["cached_share"])
    if share > 1:
        raise ValueError(f"cached_share is {share}, the most is 1: the price without a cache")
    try:
        dated = date.fromisoformat(str(fields["dated"]))
    except ValueError:
        raise ValueError(f"dated is {fields['dated']!r}: give a day, such as 2026-11-21") from None
    return Prices(
        currency,
        dated,
        share,
        tuple(_rule(f"rule {number}", rule) for number, rule in enumerate(rules, 1)),
    )


def _rule(where: str, told: Any) -> Rule:
    kind = _MACHINE_KEYS if isinstance(told, dict) and "machine_per_hour" in told else _TOKEN_KEYS
    fields = _object(where, told, {"model", "precision", *kind})
    for name in ("model", "precision"):
        if not (isinstance(fields[name], str) and fields[name]):
            raise ValueError(f"{where}: {name} is {fields[name]!r}: give a name, or * for all")
    numbers = {name: _number(f"{where}: {name}", fields[name]) for name in kind}
    if kind is _TOKEN_KEYS:  # a million tokens' price is a token's in millionths
        micros = numbers["prompt_per_million"], numbers["completion_per_million"]
    else:
        for name in ("prompt_tokens_per_s", "completion_tokens_per_s"):
            if not numbers[name]:
                raise ValueError(f"{where}: {name} is 0: give the tokens that were measured")
        second = numbers["machine_per_hour"] * MICROS / _HOUR_S
        micros = (
            second / numbers["prompt_tokens_per_s"],
            second / numbers["completion_tokens_per_s"],
        )
    return Rule(fields["model"], fields["precision"], *micros)


def _object(where: str, told: Any, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(told, dict) or told.keys() != names:
        keys = ", ".join(sorted(told)) if isinstance(told, dict) else type(told).__name__
        raise ValueError(f"{where} has {keys or 'nothing'}: needed are {', '.join(sorted(names))}")
    return told


def _number(where: str, told: Any) -> Decimal:
    try:
        if isinstance(told, bool):
            raise InvalidOperation
        number = Decimal(told)
    except (InvalidOperation, TypeError, ValueError):
        raise ValueError(f"{where} is {told!r}: give a number") from None
    if not (number.is_finite() and 0 <= number <= MICROS):
        raise ValueError(f"{where} is {told}: give a number from 0 to {MICROS}")
    return number
