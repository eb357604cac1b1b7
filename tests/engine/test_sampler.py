import numpy as np
import pytest
from fitting import ODDS, chance_of_a_worse_fit

from nanotriton.engine.request import Settings
from nanotriton.engine.sampler import needs_all_logits, pick

LOGITS = np.array([2.0, 1.7, 1.2, 1.2, 0.6, 0.1, -0.4, -1.0, -1.5, -2.0], np.float32)  # (K,)
NUM_DRAWS = 20_000
FILTERS = {
    "plain": {"temperature": 1.0},
    "cold": {"temperature": 0.5},
    "hot": {"temperature": 5.0},
    "top_k": {"temperature": 1.0, "top_k": 4},
    "top_p": {"temperature": 1.0, "top_p": 0.8},
    "min_p": {"temperature": 1.0, "min_p": 0.2},
    "top_k+top_p": {"temperature": 1.5, "top_k": 6, "top_p": 0.7},
    "all": {"temperature": 2.0, "top_k": 8, "top_p": 0.9, "min_p": 0.3},
}


def reference(logits, settings):
    """Probability of each column, one filter after the other, as plainly as it can be said."""
    weights = [np.exp(float(one) / settings.temperature) for one in logits]
    if settings.top_k:
        weights[settings.top_k :] = [0.0] * len(weights[settings.top_k :])
    kept, reached, total = [], 0.0, sum(weights)
    for weight in weights:
        kept.append(weight if reached / total < settings.top_p else 0.0)
        reached += weight
    kept = [weight if weight >= settings.min_p * kept[0] else 0.0 for weight in kept]
    return np.array(kept) / sum(kept)


def draw(logits, settings, uniforms):
    """Column for each uniform number, all with the same logits and settings."""
    rows = np.tile(logits, (len(uniforms), 1))
    return np.array(pick(rows, [settings] * len(uniforms), uniforms))


def random_rows(num_rows, num_columns):
    """Sorted logits, settings and uniform numbers of unlike rows."""
    random = np.random.default_rng(11)
    logits = -np.sort(-random.normal(0, 3, (num_rows, num_columns)).astype(np.float32), axis=1)
    settings = [
        Settings(
            temperature=float(random.choice([0.0, 0.3, 1.0, 4.0])),
            top_k=int(random.choice([0, 1, 5, 500])),
            top_p=float(random.choice([0.1, 0.9, 1.0])),
            min_p=float(random.choice([0.0, 0.05, 1.0])),
        )
        for _ in range(num_rows)
    ]
    return logits, settings, random.random(num_rows).tolist()


def test_greedy_takes_the_likeliest_whatever_the_uniform_number():
    assert draw(LOGITS, Settings(), [0.0, 0.5, 0.999]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_draws_fit_the_reference(filters):
    # A right sampler fails with one seed in a million (ODDS) in each case; this seed is fixed.
    settings = Settings(**filters)
    probabilities = reference(LOGITS, settings)
    columns = draw(LOGITS, settings, np.random.default_rng(5).random(NUM_DRAWS).tolist())
    counts = np.bincount(columns, minlength=len(LOGITS))
    possible = probabilities > 0
    assert counts[~possible].sum() == 0
    expected = probabilities[possible] * NUM_DRAWS
    assert chance_of_a_worse_fit(counts[possible], expected) > ODDS


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
def test_fit_notices_a_wrong_sampler(filters):
    # The test above must be able to fail: draws at 1.3 times the temperature do not fit.
    wrong = Settings(**filters | {"temperature": filters["temperature"] * 1.3})
    right = reference(LOGITS, Settings(**filters))
    counts = reference(LOGITS, wrong)[right > 0] * NUM_DRAWS
    assert chance_of_a_worse_fit(counts, right[right > 0] * NUM_DRAWS) < ODDS


def test_row_does_not_depend_on_its_batch_mates():
    logits, settings, uniforms = random_rows(300, 40)
    together = pick(logits, settings, uniforms)
    alone = [pick(logits[row : row + 1], [settings[row]], [uniforms[row]])[0] for row in range(300)]
    assert together == alone


def test_top_k_of_one_is_greedy():
    settings = Settings(temperature=3.0, top_k=1)
    assert set(draw(LOGITS, settings, np.linspace(0, 1, 50, endpoint=False).tolist())) == {0}


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("uniform", [0.0, np.nextafter(1.0, 0.0), 1.0])
def test_extreme_uniform_number_stays_inside_the_kept_set(filters, uniform):
    settings = Settings(**filters)
    (column,) = draw(LOGITS, settings, [uniform])
    kept = np.flatnonzero(reference(LOGITS, settings))
    assert column == (kept[-1] if uniform else kept[0])


@pytest.mark.parametrize("top_k", [1, 3, 8])
@pytest.mark.parametrize("top_p", [0.5, 1.0])
def test_candidates_alone_decide_when_top_k_fits_into_them(top_k, top_p):
    settings = Settings(temperature=1.3, top_k=top_k, top_p=top_p)
    uniforms = np.linspace(0, 1, 500, endpoint=False).tolist()
    num_candidates = 8
    assert not needs_all_logits(settings, num_candidates)
    few = draw(LOGITS[:num_candidates], settings, uniforms)
    assert few.tolist() == draw(LOGITS, settings, uniforms).tolist()


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        (Settings(), False),
        (Settings(temperature=1.0), True),
        (Settings(temperature=1.0, top_k=8), False),
        (Settings(temperature=1.0, top_k=9), True),
        (Settings(temperature=0.0, top_k=9), False),
    ],
    ids=["greedy", "every-token", "top_k-fits", "top_k-too-large", "greedy-top_k"],
)
def test_all_logits_are_needed_only_when_candidates_may_not_hold_the_token(settings, needed):
    assert needs_all_logits(settings, 8) is needed


def test_ties_and_extreme_logits_never_leave_the_columns():
    logits = np.array([3e4, 3e4, -3e4, -3e38], np.float32)
    settings = Settings(temperature=0.01, top_p=0.999, min_p=1.0)
    columns = draw(logits, settings, np.linspace(0, 1, 100).tolist())
    assert set(columns) == {0, 1}
