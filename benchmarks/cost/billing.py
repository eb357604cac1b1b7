"""Throughput to money. Comes in: a Rung, a machine's prices. Goes out: a Bill. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.common.prices import PURCHASES, Machine, dollars_per_thousand
from benchmarks.cost.ladder import Rung


@dataclass(frozen=True, slots=True)
class Bill:
    """By purchase: a thousand new tokens of a machine never idle, a developer's month of one mostly
    idle. `assumed` names the purchases whose price is a share of the list price.
    """

    way: str
    precision: str
    machine: str
    per_thousand: Mapping[str, float]
    per_month: Mapping[str, float]
    assumed: tuple[str, ...]


def bill_of(rung: Rung, machine: Machine, monthly_tokens: float, utilisation: float) -> Bill:
    """`utilisation` is the share of its possible tokens that the machine really writes."""
    per_thousand = {
        name: dollars_per_thousand(rung.tokens_per_s, machine.hourly(name)) for name in PURCHASES
    }
    per_month = {
        name: one * monthly_tokens / 1000 / utilisation for name, one in per_thousand.items()
    }
    return Bill(rung.way, rung.precision, machine.name, per_thousand, per_month, machine.assumed)


def saved(gain: float) -> float:
    """The share of the cost that so many times the throughput saves; less than 0 is lost."""
    return 1 - 1 / gain
