"""What the service tells of every request: checked, begun, finished; here it becomes money.

Comes in: callers, requests, how they ended. Goes out: rows for the ledger and costs for the
budgets. Knows nothing of HTTP.
"""

import time
from dataclasses import replace
from decimal import Decimal

from gateway.account.budget import Budgets
from gateway.account.ledger import Ledger
from gateway.account.prices import MICROS, Prices
from gateway.account.rows import begun_row, finished_row
from gateway.errors import Unavailable
from gateway.messages import Caller, CompletionRequest, Finished, Served


class Account:
    """One gateway's; every call is cheap and waits for no database."""

    def __init__(self, ledger: Ledger, prices: Prices, budgets: Budgets) -> None:
        self.ledger = ledger
        self.prices = prices
        self.budgets = budgets

    def check(self, caller: Caller) -> dict[str, str]:
        """Headers that warn of the soft budget; raises BudgetSpent, or Unavailable."""
        self.ledger.check()
        return self.budgets.check(caller)

    def begin(self, caller: Caller, request: CompletionRequest, served: Served) -> None:
        """The request goes to the engine; raises BudgetSpent, or Unavailable: then it must not."""
        micros = self.prices.cost_micros(served, request.most_usage, "ok")
        self.budgets.reserve(caller, request.id, micros)
        started = time.time()
        try:
            self.ledger.begin(begun_row(caller, request, served, started))
        except Unavailable:
            self.budgets.book(caller.key_id, request.id, 0, started)
            raise

    def priced(self, finished: Finished) -> Finished:
        """The same with its cost, for metrics and logs."""
        micros = self.prices.cost_micros(finished.served, finished.usage, finished.outcome)
        return replace(finished, cost=float(Decimal(micros) / MICROS))

    def finish(self, finished: Finished, trace: object = None) -> None:  # noqa: ARG002
        """The request ended; before the answer's last byte is sent.

        What was refused before it began took no work and has no row: a flood of refusals must not
        fill the database. Metrics and logs tell of it.
        """
        caller, served = finished.caller, finished.served
        if caller is None or served is None:
            return
        is_begun = self.ledger.is_open(finished.request.id, caller.key_id)
        if finished.outcome == "refused" and not is_begun:
            return
        micros = self.prices.cost_micros(served, finished.usage, finished.outcome)
        self.ledger.finish(finished_row(finished, caller, micros))
        started = finished.times.started_at
        self.budgets.book(caller.key_id, finished.request.id, micros, started)

    def close(self) -> None:
        """Bring everything into the database, if it is there."""
        self.budgets.close()
        self.ledger.close()
