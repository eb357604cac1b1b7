"""How well counts fit a distribution: for tests that sample."""

from statistics import NormalDist

# Below this probability of so bad a fit a sampler is called wrong.
ODDS = 1e-6


def chance_of_a_worse_fit(counts, expected):
    """P(chi-square exceeds what was seen), by the approximation of Wilson and Hilferty (1931)."""
    freedom = len(counts) - 1
    per_degree = ((counts - expected) ** 2 / expected).sum() / freedom
    spread = 2 / (9 * freedom)
    return 1 - NormalDist().cdf((per_degree ** (1 / 3) - (1 - spread)) / spread**0.5)
