"""The one public door: an OpenAI-compatible API with keys, limits and accounts in front of Triton.

It speaks to Triton through `clients` alone. The way of a request, each stage a package or module:

    identity ▶ limits ▶ budget ▶ sessions ▶ caches ▶ admission ▶ routing ▶ breaker ▶ Triton
                                                                   └──▶ ledger, metrics, traces
"""
