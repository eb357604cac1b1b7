"""The price table: what a machine costs an hour, by the way it is bought.

Comes in: a TOML file (prices.toml). Goes out: Prices. Knows nothing of what is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import tomllib

DEFAULT_PRICES = Path(__file__).parent / "prices.toml"
PURCHASES = ("on_demand", "spot", "reserved")


class PriceError(ValueError):
    """A price table that can't be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Prices an hour; those in `assumed` are a share of the list price, not a price."""

    name: str
    cpus: int
    memory_gib: float
    source: str
    on_demand: float
    spot: float
    reserved: float
    assumed: tuple[str, ...]

    def hourly(self, purchase: str) -> float:
        """By one of PURCHASES."""
        return {"on_demand": self.on_demand, "spot": self.spot, "reserved": self.reserved}[purchase]


@dataclass(frozen=True, slots=True)
class Prices:
    """All machines of a table."""

    dated: date
    currency: str
    hours_per_month: float
    machines: tuple[Machine, ...]

    def machine(self, name: str | None) -> Machine:
        """The one of that name, the first without one; raises PriceError."""
        found = [one for one in self.machines if name in (None, one.name)]
        if not found:
            known = ", ".join(one.name for one in self.machines)
            raise PriceError(f"no machine is named {name!r}: there are {known}")
        return found[0]


def load_prices(path: Path) -> Prices:
    """Raises PriceError."""
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PriceError(f"{path} can't be read as TOML: {error}") from None
    try:
        return _prices_of(told)
    except PriceError as error:
        raise PriceError(f"{path}: {error}") from None
    except (KeyError, TypeError) as error:
        raise PriceError(
            f"{path}: {type(error).__name__} {error}: take the form of {DEFAULT_PRICES.name}"
        ) from None


def dollars_per_thousand(tokens_per_s: float, hourly: float) -> float:
    """What a thousand tokens cost on a machine that is never idle."""
    return hourly / 3600 / tokens_per_s * 1000


def _prices_of(told: Mapping[str, Any]) -> Prices:
    shares = {
        purchase: _number(told["assumed"], f"{purchase}_share", 1.0)
        for purchase in ("spot", "reserved")
    }
    machines = tuple(_machine_of(one, shares) for one in told["machines"])
    names = [one.name for one in machines]
    if not names or len({*names}) < len(names):
        raise PriceError(f"machines are named {names}: give at least one, each another name")
    if not isinstance(told["dated"], date):
        raise PriceError(f"dated is {told['dated']!r}: give a day such as 2026-11-21")
    hours = _number(told, "hours_per_month", 744.0)
    return Prices(told["dated"], str(told["currency"]), hours, machines)


def _machine_of(told: Mapping[str, Any], shares: Mapping[str, float]) -> Machine:
    known = {"name", "cpus", "memory_gib", "source", *PURCHASES}
    if unknown := {*told} - known:
        raise PriceError(f"a machine has {sorted(unknown)}: it may have {sorted(known)}")
    on_demand = _number(told, "on_demand", 1000.0)
    priced = {
        purchase: _number(told, purchase, 1000.0) if purchase in told else on_demand * share
        for purchase, share in shares.items()
    }
    return Machine(
        str(told["name"]),
        int(_number(told, "cpus", 1024)),
        _number(told, "memory_gib", 65536),
        str(told["source"]),
        on_demand,
        priced["spot"],
        priced["reserved"],
        tuple(one for one in priced if one not in told),
    )


def _number(told: Mapping[str, Any], name: str, most: float) -> float:
    value = told[name]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
        raise PriceError(f"{name} is {value!r}: give a number above 0, at most {most:g}")
    return float(value)
