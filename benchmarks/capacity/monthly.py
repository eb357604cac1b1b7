"""What a day's replicas cost a developer in a month.

Comes in: a Row, its Day, a machine's prices. Goes out: a Month. Pure.
"""

from dataclasses import dataclass

from benchmarks.capacity.world import Day, Row
from benchmarks.common.prices import Machine

HOURS_A_DAY = 24.0


@dataclass(frozen=True, slots=True)
class Month:
    """Money for each developer: all machines on demand, the least number of the day reserved and
    the rest on demand, or all spot. On days off the least number runs.
    """

    row: Row
    machine_hours: float
    on_demand: float
    base_reserved: float
    spot: float


def month_of(row: Row, day: Day, machine: Machine, hours_per_month: float) -> Month:
    """Gateway and database aside: the replica's machine is what is counted."""
    base = day.rule.min_replicas * row.num_regions
    days_off = hours_per_month / HOURS_A_DAY - day.habits.working_days
    hours = row.replica_hours * day.habits.working_days + base * HOURS_A_DAY * days_off
    # Machines that run at the quietest time of a working day run on days off as well once reserved.
    reserved = max(base, 0 if row.scenario == "region lost" else row.least)
    beyond = max(0.0, row.replica_hours - reserved * HOURS_A_DAY) * day.habits.working_days
    mixed = reserved * hours_per_month * machine.reserved + beyond * machine.on_demand
    return Month(
        row,
        hours,
        hours * machine.on_demand / row.num_developers,
        mixed / row.num_developers,
        hours * machine.spot / row.num_developers,
    )
