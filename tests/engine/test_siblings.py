"""Several texts of one prompt: computed once, drawn apart, joined into one answer."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from driving import Drive, complete_alone
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotriton.engine.events import Failure
from nanotriton.errors import InvalidRequest, Unavailable

PROMPT = [*range(20, 40)]
SAMPLED = {"temperature": 1.0, "seed": 7, "max_tokens": 6}
OPTIONS = [{}, {"prefix_cache": False}, {"isolate_users": True}]
IDS = ["cache on", "cache off", "users kept apart"]


def texts_of(drive: Drive, prompt: Sequence[int] = PROMPT, **asked: object) -> list[str]:
    number = drive.submit(prompt, **{**SAMPLED, **asked})
    drive.finish()
    return [one.text for one in drive.outcomes(number)]


@pytest.mark.parametrize("num_slots", [1, 2, 3, 8])
@pytest.mark.parametrize("options", OPTIONS, ids=IDS)
@pytest.mark.parametrize("length", [2, 4, 20])
def test_prompt_is_computed_once_however_few_slots_there_are(
    num_slots: int, options: dict[str, bool], length: int
) -> None:
    drive = Drive(num_slots=num_slots, prefill_chunk=4, options=options)
    number = drive.submit(PROMPT[:length], n=5, **SAMPLED)
    kinds = []
    while drive.engine.has_work:
        drive.step()
        kinds.append(drive.engine.last_step)

    assert len({one.text for one in drive.outcomes(number)}) == 5
    assert kinds.count("prefill") == -(-length // 4)
    assert "mixed" not in kinds
    assert drive.engine.stats()["num_free_slots"] == num_slots


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(1, 6), st.booleans(), st.integers(1, 25), st.integers(0, 9))
def test_each_text_is_the_same_whatever_runs_beside_it(num_slots, n, cache, length, seed):
    prompt = [*range(40, 40 + length)]
    asked = {**SAMPLED, "n": n, "seed": seed}
    drive = Drive(num_slots=num_slots, prefill_chunk=4, options={"prefix_cache": cache})
    numbers = [drive.submit(one, **asked) for one in (prompt, PROMPT, prompt)]
    drive.finish()
    wide = Drive(num_slots=16)

    found = [[one.text for one in drive.outcomes(number)] for number in numbers]

    assert found[0] == found[2] == texts_of(wide, prompt, n=n, seed=seed)
    assert found[1] == texts_of(wide, PROMPT, n=n, seed=seed)


def test_first_text_is_that_of_a_request_for_one() -> None:
    alone = complete_alone(PROMPT, **SAMPLED)

    assert texts_of(Drive(), n=3)[0] == alone.text


def test_first_tokens_of_all_texts_follow_the_models_distribution() -> None:
    drive = Drive(num_slots=16)
    counts = np.zeros(97)
    for seed in range(100):
        number = drive.submit(PROMPT, n=16, temperature=1.0, max_tokens=1, seed=seed)
        drive.finish()
        for one in drive.outcomes(number):
            counts[one.tokens[0]] += 1
    probe = drive.submit(PROMPT, max_tokens=1, temperature=1.0, top_k=8, logprobs=8)
    drive.finish()
    (event,) = drive.events[probe]

    assert not isinstance(event, Failure)
    # 1,600 draws: a share is off by 5 standard deviations once in 1.7 million.
    for token, logprob in event.logprobs[0].top:
        share = np.exp(logprob)
        assert abs(counts[token] / 1600 - share) < 5 * np.sqrt(share * (1 - share) / 1600)


def test_texts_are_drawn_apart() -> None:
    drive = Drive(num_slots=8)
    firsts = []
    for seed in range(150):
        number = drive.submit(PROMPT, n=2, temperature=1.0, max_tokens=1, seed=seed)
        drive.finish()
        firsts.append([one.tokens[0] for one in drive.outcomes(number)])
    same = np.mean([first == second for first, second in firsts])
    counts = np.bincount(np.ravel(firsts)) / 300

    chance = np.sum(counts**2)  # that two independent draws are equal
    assert abs(same - chance) < 5 * np.sqrt(chance * (1 - chance) / 150)


def test_best_texts_come_out_in_the_order_of_their_mean_logprob() -> None:
    drive = Drive(num_slots=3)
    all_of_them = drive.submit(PROMPT, n=6, logprobs=0, **SAMPLED)
    best = drive.submit(PROMPT, n=2, best_of=6, **SAMPLED)
    drive.finish()
    likely: dict[int, list[float]] = defaultdict(list)
    for event in drive.events[all_of_them]:
        likely[event.index] += [one.logprob for one in event.logprobs]
    means = {number: np.mean(one) for number, one in likely.items()}
    order = sorted(means, key=means.__getitem__, reverse=True)
    texts = [one.text for one in drive.outcomes(all_of_them)]

    found = drive.outcomes(best)

    assert [one.text for one in found] == [texts[number] for number in order[:2]]
    assert all(one.usage.completion_tokens == 36 for one in found)
    assert all(not event.logprobs for event in drive.events[best])


def test_nothing_is_told_of_the_best_before_all_have_ended() -> None:
    drive = Drive(num_slots=2)
    number = drive.submit(PROMPT, n=1, best_of=4, **SAMPLED)
    while drive.engine.has_work:
        assert not drive.events[number]
        drive.step()

    assert len(drive.outcomes(number)) == 1


@pytest.mark.parametrize("best_of", [None, 5])
def test_greedy_texts_are_written_once(best_of: int | None) -> None:
    drive = Drive(options={"speculation": False})
    number = drive.submit(PROMPT, n=3, best_of=best_of, max_tokens=4)
    drive.finish()
    alone = complete_alone(PROMPT, max_tokens=4)

    assert [one.tokens for one in drive.outcomes(number)] == [alone.tokens] * 3
    assert drive.outcomes(number)[0].usage.completion_tokens == 12
    assert len(drive.runner.batches) == 4


@pytest.mark.parametrize("num_steps", [0, 1, 2, 4])
@pytest.mark.parametrize("best_of", [None, 8])
def test_cancel_ends_all_texts_at_once(num_steps: int, best_of: int | None) -> None:
    drive = Drive(num_slots=3, prefill_chunk=16)
    number = drive.submit(PROMPT, n=6, best_of=best_of, **SAMPLED)
    for _ in range(num_steps):
        drive.step()
    drive.cancel(number)

    assert [one.reason for one in drive.outcomes(number)] == ["cancelled"] * 6
    assert not drive.engine.has_work
    assert drive.engine.stats()["num_free_slots"] == 3


@pytest.mark.parametrize("best_of", [None, 4])
def test_deadline_ends_all_texts_as_far_as_they_came(best_of: int | None) -> None:
    drive = Drive(num_slots=2)
    number = drive.submit(PROMPT, n=4, best_of=best_of, timeout_ms=100, **SAMPLED)
    for _ in range(3):
        drive.step()
    drive.now_s = 0.2
    drive.step()
    found = drive.outcomes(number)

    assert [one.reason for one in found] == ["timeout"] * 4
    assert [len(one.tokens) for one in found] == [3, 2, 0, 0]
    assert not drive.engine.has_work


@pytest.mark.parametrize("kind", ["fail_on", "nan_on"])
def test_text_that_fails_takes_its_siblings_with_it_and_nobody_else(kind: str) -> None:
    texts = complete_alone(PROMPT, **SAMPLED)
    other = [90, 91]
    drive = Drive(num_slots=4, **{kind: texts.tokens[2]}, options={"speculation": False})
    number = drive.submit(PROMPT, n=6, **SAMPLED)
    drive.finish()
    bystander = drive.submit(other, max_tokens=1)
    drive.finish()

    assert isinstance(drive.events[number][-1], Failure)
    assert drive.outcome(bystander) == complete_alone(other, max_tokens=1)
    assert drive.engine.stats()["num_free_slots"] == 4


def test_texts_that_wait_for_slots_keep_no_request_out() -> None:
    drive = Drive(num_slots=1, max_waiting=2)
    drive.submit(PROMPT, n=16, **SAMPLED)
    drive.step()
    drive.submit(PROMPT)
    drive.submit(PROMPT)

    assert drive.engine.stats()["num_waiting"] == 2
    assert drive.engine.stats()["num_running"] == 1
    with pytest.raises(Unavailable, match="2 requests wait"):
        drive.submit(PROMPT)


def test_more_urgent_request_gets_the_next_slot_but_the_last() -> None:
    drive = Drive(num_slots=2)
    drive.submit(PROMPT, n=8, **SAMPLED)
    drive.step()
    urgent = drive.submit([90, 91], priority=8, max_tokens=1)
    steps = 0
    while urgent not in drive.step():
        steps += 1

    assert steps <= SAMPLED["max_tokens"]


def test_number_of_a_request_that_is_under_way_is_refused() -> None:
    drive = Drive()
    drive.submit(PROMPT)
    drive._numbers = iter([0])

    with pytest.raises(InvalidRequest, match="request 0 is under way: give each its own number"):
        drive.submit(PROMPT)


MIXES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 4), min_size=1, max_size=9),
        st.fixed_dictionaries(
            {
                "n": st.integers(1, 3),
                "best_of": st.none() | st.integers(3, 5),
                "max_tokens": st.integers(1, 6),
                "temperature": st.sampled_from([0.0, 2.0]),
                "seed": st.integers(0, 3),
                "priority": st.integers(-8, 8),
            }
        ),
        st.none() | st.integers(0, 12),  # steps before it is cancelled
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60)
@given(MIXES, st.integers(1, 4), st.none() | st.integers(0, 96), st.sampled_from([0.0, 9.0]))
def test_every_mix_ends_right_and_frees_every_slot(mix, num_slots, fail_on, echo):
    runner = {"num_slots": num_slots, "fail_on": fail_on, "echo": echo}
    drive = Drive(prefill_chunk=3, end_of_text=50, **runner)
    numbers = [drive.submit(prompt, **asked) for prompt, asked, _ in mix]
    for step in range(13):
        for number, (_, _, cancelled_at) in zip(numbers, mix, strict=True):
            if cancelled_at == step:
                drive.cancel(number)
        drive.step()
    drive.finish()

    assert drive.engine.stats()["num_free_slots"] == num_slots
    assert drive.engine.stats()["num_running"] == 0
    for number, (prompt, asked, cancelled_at) in zip(numbers, mix, strict=True):
        if isinstance(drive.events[number][-1], Failure):
            continue
        found = drive.outcomes(number)
        assert len(found) == asked["n"]
        if cancelled_at is None:
            alone = Drive(num_slots=16, end_of_text=50, echo=echo)
            twin = alone.submit(prompt, **asked)
            alone.finish()
            assert found == alone.outcomes(twin)
