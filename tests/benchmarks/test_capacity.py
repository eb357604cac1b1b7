"""The simulator against queueing theory, and the rule against Kubernetes' own words."""

import json
from dataclasses import asdict
from math import factorial, sqrt
from pathlib import Path

import numpy as np
import pytest
import simpy

from benchmarks.__main__ import main
from benchmarks.capacity.curve import CurveError, ServiceCurve, curve_of_rates
from benchmarks.capacity.developers import DAY_S, Habits, Region, rate_at, regions_of
from benchmarks.capacity.fleet import Fleet, Hazards
from benchmarks.capacity.replica import Arrivals, Replica
from benchmarks.capacity.rule import Autoscaler, Rule
from benchmarks.capacity.tally import Tally
from benchmarks.capacity.world import Day, simulate_day

NUM_BATCHES = 50
RULE = Rule("in flight", 2.0)


def curve_of_servers(
    num_servers: int, per_s: float = 1.0, max_waiting: int = 10**6
) -> ServiceCurve:
    """A replica that is so many servers of exponential service behind one line: M/M/c."""
    sizes = np.random.default_rng(9).exponential(1, 100_000)
    rates = [per_s * count for count in range(1, num_servers + 1)]
    return curve_of_rates(rates, (sizes / sizes.mean()).tolist(), num_servers, max_waiting)


def mean_wait_theory(num_servers: int, load: float) -> float:
    """Erlang C: the mean time in the line of M/M/c with service of mean 1 (Kleinrock 1975, 3.5)."""
    offered = num_servers * load
    top = offered**num_servers / factorial(num_servers) / (1 - load)
    below = sum(offered**k / factorial(k) for k in range(num_servers))
    return top / (below + top) / (num_servers * (1 - load))


@pytest.mark.parametrize(("num_servers", "load"), [(1, 0.5), (1, 0.8), (4, 0.7), (8, 0.9)], ids=str)
def test_mean_wait_is_that_of_queueing_theory(num_servers: int, load: float) -> None:
    """Further than four standard errors of 50 batches: once in 5,000 seeds (Student's t)."""
    curve, random = curve_of_servers(num_servers), np.random.default_rng(num_servers)
    replica, per_s, seconds = Replica(curve), num_servers * load, 4000.0 / num_servers / load
    waits = []
    for batch in range(NUM_BATCHES + 1):
        count = random.poisson(per_s * seconds)
        times = np.sort(random.uniform(batch * seconds, (batch + 1) * seconds, count))
        sizes = random.choice(np.array(curve.sizes), count)
        before = replica.waiting_s
        replica.advance(
            (batch + 1) * seconds,
            Arrivals(times.tolist(), sizes.tolist(), [float("inf")] * count),
        )
        waits.append((replica.waiting_s - before) / (per_s * seconds))  # Little's law

    found = np.array(waits[1:])  # the first one begins empty
    error = found.std(ddof=1) / sqrt(NUM_BATCHES)

    assert abs(found.mean() - mean_wait_theory(num_servers, load)) < 4 * error


def test_shared_service_is_that_of_processor_sharing() -> None:
    """M/M/1 with equal shares: a question of twice the size takes twice as long, x / (1 - load)."""
    load, count = 0.6, 40_000
    curve = curve_of_rates([1.0], [1.0], num_slots=1000, max_waiting=0)
    random = np.random.default_rng(3)
    times = np.sort(random.uniform(0, count / load, count))
    replica = Replica(curve)
    replica.advance(count / load, Arrivals(times.tolist(), [1.0] * count, [float("inf")] * count))
    replica.drain()
    batches = np.array(replica.outcomes.served_s).reshape(NUM_BATCHES, -1).mean(axis=1)
    error = batches.std(ddof=1) / sqrt(NUM_BATCHES)

    assert abs(batches.mean() - 1 / (1 - load)) < 4 * error


def test_every_question_is_served_refused_left_or_lost() -> None:
    curve = curve_of_rates([2.0, 3.0], [0.5, 1.5], num_slots=2, max_waiting=3)
    random = np.random.default_rng(1)
    replica = Replica(curve)
    for start in range(100):
        times = np.sort(random.uniform(start, start + 1, random.poisson(4.0)))
        patience = random.exponential(1.0, len(times)).tolist()
        sizes = random.choice([0.5, 1.5], len(times)).tolist()
        replica.advance(start + 1.0, Arrivals(times.tolist(), sizes, patience))
        ended = replica.outcomes
        assert ended.num_arrived == ended.num_ended + replica.num_inside
    replica.fail()

    kinds = (len(ended.served_s), len(ended.left_s), ended.num_refused, ended.num_failed)
    assert ended.num_arrived == sum(kinds)
    assert all(kinds)


def test_asker_who_leaves_frees_the_slot_for_the_next() -> None:
    replica = Replica(curve_of_rates([1.0], [1.0], num_slots=1, max_waiting=5))

    replica.advance(10.0, Arrivals([0.0, 0.1], [5.0, 1.0], [0.5, 9.0]))

    assert replica.outcomes.left_s == [0.5]
    assert replica.outcomes.served_s == [pytest.approx(1.4)]


def test_question_is_refused_when_line_is_full() -> None:
    replica = Replica(curve_of_rates([1.0], [1.0], num_slots=1, max_waiting=1))

    replica.advance(0.5, Arrivals([0.0, 0.1, 0.2], [1.0] * 3, [9.0] * 3))

    assert (replica.num_running, replica.num_waiting) == (1, 1)
    assert replica.outcomes.num_refused == 1


@pytest.mark.parametrize(
    ("num_replicas", "signal", "wanted"),
    [
        (10, 20.0, 10),
        (10, 21.9, 10),
        (10, 24.0, 12),
        (10, 100.0, 20),
        (3, 100.0, 7),
        (2, 0.0, 2),
    ],
    ids=["as aimed", "within tolerance", "up", "at most twice", "or four more", "not below least"],
)
def test_rule_wants_what_kubernetes_does(num_replicas: int, signal: float, wanted: int) -> None:
    assert Autoscaler(RULE).decide(num_replicas, signal) == wanted


def test_fewer_are_wanted_once_the_window_has_passed() -> None:
    scaler = Autoscaler(Rule("in flight", 2.0, average_s=15, down_window_s=60))

    sizes = [scaler.decide(10, signal) for signal in (20.0, 6.0, 6.0, 8.0, 6.0, 6.0, 6.0, 6.0)]

    assert sizes == [10, 10, 10, 10, 4, 4, 4, 3]


def fleet_of(env: simpy.Environment, rate: float, sample: int, hazards: Hazards) -> Fleet:
    """Replicas of two servers that get `rate` questions a second."""
    return Fleet(
        env,
        curve_of_servers(2, per_s=4.0, max_waiting=20),
        Rule("in flight", 1.0),
        hazards,
        Habits(typed_on_share=0.3, near_s=0.0),
        rate=lambda _: rate,
        far_share=lambda: 0.0,
        sample=sample,
        seed=4,
    )


def test_fleet_loses_no_question_through_spot_loss_and_return() -> None:
    env = simpy.Environment()
    fleet = fleet_of(env, 30.0, 50, Hazards(spot_per_hour=5.0, notice_s=30.0))
    env.run(600)
    lost = fleet.lose()
    env.run(660)
    env.process(fleet.restore(lost))
    env.run(1500)
    fleet.finish()

    tally = fleet.tally
    assert tally.num_arrived == tally.num_ended
    assert tally.asked == pytest.approx(tally.num_ended)
    assert min(tally.served, tally.left, tally.refused, tally.failed) > 0


def test_sample_of_a_fleet_sees_what_the_whole_fleet_sees() -> None:
    """Medians of some 30,000 answers each, of one distribution: 5 % apart is beyond ten errors."""
    medians, sizes = [], []
    for sample in (4, 100):
        env = simpy.Environment()
        fleet = fleet_of(env, 100.0, sample, Hazards())
        env.run(3600 if sample == 4 else 900)
        fleet.finish()
        medians.append(fleet.tally.percentiles_s(0.5)[0])
        sizes.append(fleet.moments[-1].num_replicas)

    assert medians[0] == pytest.approx(medians[1], rel=0.05)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.25)


def test_a_day_has_as_many_questions_as_its_developers_ask() -> None:
    habits, region = Habits(questions_per_day=300), Region("there", 0.4, -6.0)
    steps = np.arange(0, DAY_S, 60.0)

    asked = sum(rate_at(region, 1000, habits, at_s) * 60.0 for at_s in steps)

    assert asked == pytest.approx(0.4 * 1000 * 300, rel=1e-6)
    assert sum(one.share for one in regions_of(10_000)) == pytest.approx(1)


def test_goodput_leaves_out_who_typed_on_before_the_goal() -> None:
    tally, outcomes = Tally(), Replica(curve_of_servers(1)).outcomes
    outcomes.served_s += [0.1, 0.19, 0.3]
    outcomes.left_s += [0.05, 0.4]
    outcomes.num_refused = 1

    tally.add(outcomes, 10.0, np.zeros)

    assert tally.goodput() == pytest.approx(2 / 5)
    assert tally.percentiles_s(0.5, 1.0) == [0.19, 0.3]


def test_developers_of_a_lost_region_are_refused_until_others_take_over() -> None:
    habits = Habits(questions_per_day=20)
    day = Day(curve_of_servers(2, per_s=40.0), RULE, habits, 10_000, "region lost")

    row, moments = simulate_day(day)

    assert row.num_simulated == pytest.approx(200_000, rel=0.02)  # nobody asks less for it
    assert 0 < row.refused < 0.01
    assert min(one.num_replicas for one in moments) == 4  # of three regions' six


def test_command_tells_the_day_that_the_seed_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, curve = tmp_path / "curve.json", curve_of_servers(4, per_s=5.0)
    curve.save(path, {})
    words = ["--developers", "50", "--days", "spot", "--target", "1", "--json"]

    assert main(["capacity", "--curve", str(path), *words, "--plot", str(tmp_path)]) == 0

    day = Day(curve, Rule("in flight", 1.0), Habits(), 50, "spot")
    assert json.loads(capsys.readouterr().out)["rows"] == [asdict(simulate_day(day)[0])]
    assert {"capacity.svg", "capacity-day.png"} <= {one.name for one in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[1]", "is no service curve"),
        ('{"levels": [], "sizes": [1], "num_slots": 1, "max_waiting": 1}', "begin with 1"),
    ],
    ids=["another file", "no level"],
)
def test_file_that_is_no_curve_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "curve.json"
    path.write_text(text)

    with pytest.raises(CurveError, match=fault):
        ServiceCurve.load(path)


@pytest.mark.long
def test_simulator_is_held_against_real_servers(
    demo_repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--levels", "1", "4", "--rounds", "1", "--level-seconds", "0.3", "--seconds", "1"]
    words += ["--replicas", "1", "--model-repository", str(demo_repository), "--json"]

    status = main(["capacity", "--validate", *words])

    told = json.loads(capsys.readouterr().out)
    assert status == 0
    assert [one["num_replicas"] for one in told["rows"]] == [1, 1, 1]
    assert all(one["measured"]["p95_ms"] > 0 < one["num_asked"] for one in told["rows"])
    assert [level["num_streams"] for level in told["curves"][0]["levels"]] == [1, 4]
