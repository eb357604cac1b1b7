"""Money: price tables, what a thousand tokens cost, and what each optimisation saved."""

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.common.prices import DEFAULT_PRICES, PURCHASES, PriceError, load_prices
from benchmarks.common.ratios import Ratio
from benchmarks.cost.billing import bill_of, saved
from benchmarks.cost.ladder import BEFORE, Rung, measure_ways

PRICES = load_prices(DEFAULT_PRICES)
RUNG = Rung("batching", "fp32", 100.0, "KV cache", Ratio(2.0, 1.9, 2.1, 9))
TABLE = DEFAULT_PRICES.read_text()


def test_thousand_tokens_cost_the_seconds_that_they_take() -> None:
    machine = PRICES.machine("c7a.large")

    bill = bill_of(RUNG, machine, monthly_tokens=100_000, utilisation=0.5)

    assert bill.per_thousand["on_demand"] == pytest.approx(0.10264 / 3600 * 10)
    assert bill.per_month["on_demand"] == pytest.approx(0.10264 / 3600 * 1000 / 0.5)
    assert bill.per_thousand["spot"] == pytest.approx(0.4 * bill.per_thousand["on_demand"])
    assert bill.assumed == ("spot", "reserved")


@pytest.mark.parametrize(("gain", "share"), [(2.0, 0.5), (1.0, 0.0), (0.5, -1.0)], ids=str)
def test_gain_saves_a_share_of_the_cost(gain: float, share: float) -> None:
    assert saved(gain) == pytest.approx(share)


def test_shipped_table_has_a_source_and_every_price_of_each_machine() -> None:
    for machine in PRICES.machines:
        assert machine.source.startswith("https://")
        assert all(0 < machine.hourly(name) <= machine.on_demand for name in PURCHASES)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("on_demand = 0.10264", "on_demand = -1", "on_demand is -1: give a number above 0"),
        ("on_demand = 0.10264", 'on_demand = "dear"', "on_demand is 'dear'"),
        ("on_demand = 0.10264", "on_demand = nan", "on_demand is nan"),
        ("on_demand = 0.10264", "", "KeyError 'on_demand'"),
        ("cpus = 2", "cores = 2", r"a machine has \['cores'\]: it may have"),
        ('name = "c7i.large"', 'name = "c7a.large"', "each another name"),
        ("dated = 2026-11-21", 'dated = "today"', "dated is 'today': give a day"),
        ("spot_share = 0.40", "spot_share = 4", "spot_share is 4: give a number above 0, at most"),
        ("[assumed]", "[assumed", "can't be read as TOML"),
    ],
    ids=["negative", "word", "nan", "missing", "unknown", "twice", "no day", "share", "no TOML"],
)
def test_nonsense_in_a_price_table_is_refused(
    tmp_path: Path, old: str, new: str, fault: str
) -> None:
    path = tmp_path / "prices.toml"
    path.write_text(TABLE.replace(old, new, 1))

    with pytest.raises(PriceError, match=fault):
        load_prices(path)


def test_unknown_machine_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["capacity", "--machine", "abacus"]) == 1

    assert "no machine is named 'abacus': there are c7a.large" in capsys.readouterr().err


def test_each_way_gets_every_round_and_another_one_is_first() -> None:
    order: list[str] = []

    def way(name: str) -> int:
        order.append(name)
        return 1

    ways = {"a": lambda _: way("a"), "b": lambda _: way("b")}
    rates = measure_ways(ways, iter([[]] * 4), lambda _: None)

    assert order == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert all(len(found) == 2 for found in rates.values())


@pytest.mark.long
def test_every_optimisation_is_measured_on_the_demo_model(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["--users", "2", "--rounds", "1", "--max-tokens", "4", "--threads", "1"]

    assert main(["cost", *words, "--json", "--plot", str(tmp_path)]) == 0

    told = json.loads(capfd.readouterr().out)
    assert [one["way"] for one in told["rungs"]][1:] == [*BEFORE]
    assert all(one["tokens_per_s"] > 0 for one in told["rungs"])
    assert len(told["bills"]) == len(told["rungs"]) * len(PRICES.machines)
    assert (tmp_path / "cost.svg").stat().st_size
