"""The one public door: an OpenAI-compatible API with keys, limits and accounts in front of Triton.

It speaks to Triton through `clients` alone. The way of a request, each stage a package or module:

    identity ▶ budget ▶ limits ▶ session ▶ routing ▶ caches ▶ queue ▶ breaker ▶ Triton
                                                                └──▶ ledger, metrics, log, traces
"""
