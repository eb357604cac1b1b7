"""What every request cost: the journal, the ledger, prices, budgets, events and the month's report.

request ▶ budgets.check ▶ ledger.begin ▶ Triton ▶ prices.cost ▶ ledger.finish ▶ last byte
└──── journal (a file, at once) ──── database (soon after)
"""
