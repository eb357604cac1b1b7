import pytest
from driving import Drive, complete_alone, vocabulary

from nanotriton.engine.core import EngineOptions
from nanotriton.errors import InvalidRequest, RunnerError, Unavailable

PROMPT = [3, 1, 4, 1, 5]
OTHER = [9, 2, 6]
CONTEXT = 16


def token_only_in(tokens, other):
    """A token of a completion, not its last, that another request never touches."""
    return next(one for one in tokens[:-1] if one not in {*other, *PROMPT})


@pytest.mark.parametrize(
    ("prompt", "settings", "words"),
    [
        ([], {}, "the prompt has no tokens: send at least one"),
        ([5, -1], {}, "token ids run from -1 to 5, the vocabulary from 0 to 96: use this"),
        ([97], {}, "token ids run from 97 to 97, the vocabulary from 0 to 96"),
        ([1] * 65, {}, "the prompt has 65 tokens, the model reads at most 64: shorten it or set"),
        ([1], {"max_tokens": 65}, "max_tokens is 65, the model's context is 64 tokens: ask for"),
    ],
    ids=["empty", "negative", "too-large", "too-long", "max_tokens"],
)
def test_request_that_does_not_fit_the_model_is_refused(prompt, settings, words):
    drive = Drive()
    with pytest.raises(InvalidRequest) as refusal:
        drive.submit(prompt, **settings)
    assert str(refusal.value).startswith(words)
    assert not drive.engine.has_work


@pytest.mark.parametrize(("max_tokens", "num_kept"), [(5, 12), (1, 16), (9, 8), (16, 8)])
def test_too_long_prompt_keeps_its_end_when_asked(max_tokens, num_kept):
    prompt = [*range(40)]
    found = complete_alone(prompt, context=CONTEXT, truncate="left", max_tokens=max_tokens)
    expected = complete_alone(prompt[-num_kept:], context=CONTEXT, max_tokens=max_tokens)
    assert found == expected
    assert found.usage.prompt_tokens == num_kept


@pytest.mark.parametrize("num_prompt", [1, 5, 15, 16])
@pytest.mark.parametrize("chunk", [1, 4, 5, 128])
def test_completion_ends_with_the_context(num_prompt, chunk):
    drive = Drive(context=CONTEXT, prefill_chunk=chunk)
    number = drive.submit([7] * num_prompt, max_tokens=CONTEXT)
    drive.finish()
    found = drive.outcome(number)
    assert found.reason == "length"
    assert len(found.tokens) == CONTEXT + 1 - num_prompt


@pytest.mark.parametrize("max_tokens", [1, 2, 7])
def test_completion_ends_after_max_tokens(max_tokens):
    found = complete_alone(PROMPT, max_tokens=max_tokens)
    assert found.reason == "length"
    assert found.tokens == complete_alone(PROMPT).tokens[:max_tokens]


def test_end_of_text_stops_and_shows_nothing():
    free = complete_alone(PROMPT, max_tokens=8)
    end = free.tokens[4]
    found = complete_alone(PROMPT, end_of_text=end, max_tokens=8)
    length = free.tokens.index(end) + 1
    assert found.reason == "stop"
    assert found.tokens == free.tokens[:length]
    assert found.text == vocabulary().decode(found.tokens[:-1])


def test_ignored_end_of_text_goes_on():
    free = complete_alone(PROMPT, max_tokens=8)
    found = complete_alone(PROMPT, end_of_text=free.tokens[4], max_tokens=8, ignore_eos=True)
    assert found.reason == "length"
    assert found.tokens == free.tokens


def test_stop_string_over_several_tokens_ends_the_text_before_it():
    free = complete_alone(PROMPT, max_tokens=20)
    stop = free.text[4:7]
    found = complete_alone(PROMPT, max_tokens=20, stop=(stop,))
    assert found.reason == "stop"
    assert found.text == free.text[: free.text.index(stop)]
    assert found.tokens == free.tokens[: len(found.tokens)]


def test_text_that_only_began_a_stop_string_is_shown_at_the_end():
    free = complete_alone(PROMPT, max_tokens=8)
    assert complete_alone(PROMPT, max_tokens=8, stop=(free.text[-2:] + "never",)) == free


def test_usage_counts_the_tokens():
    found = complete_alone(PROMPT, max_tokens=40, temperature=3.0, seed=5)
    assert found.usage.prompt_tokens == len(PROMPT)
    assert found.usage.completion_tokens == len(found.tokens) == 40


def test_same_seed_gives_the_same_text():
    first, second, other = (
        complete_alone(PROMPT, temperature=1.0, seed=seed) for seed in (4, 4, 5)
    )
    assert first == second
    assert first.tokens != other.tokens


def test_request_without_a_seed_gets_one_of_its_own():
    drive = Drive()
    numbers = [drive.submit(PROMPT, temperature=1.0) for _ in range(2)]
    drive.finish()
    found = [drive.outcome(number) for number in numbers]
    assert found == [complete_alone(PROMPT, temperature=1.0, seed=seed) for seed in (1, 2)]


@pytest.mark.parametrize("top_k", [0, 5, 8, 30])
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_number_of_candidates_changes_no_text(top_k, temperature):
    found = []
    for num_candidates in (8, 97):
        drive = Drive(num_candidates=num_candidates)
        number = drive.submit(PROMPT, temperature=temperature, top_k=top_k, seed=2)
        drive.finish()
        found.append(drive.outcome(number))
    assert found[0] == found[1]


def test_full_queue_refuses_and_takes_more_when_it_has_moved_on():
    drive = Drive(num_slots=1, max_waiting=2)
    drive.submit(PROMPT, max_tokens=3)
    drive.step()
    for _ in range(2):
        drive.submit(OTHER, max_tokens=3)
    with pytest.raises(Unavailable, match="the engine is full: 2 requests wait"):
        drive.submit(OTHER)
    drive.finish()
    drive.submit(OTHER)


def test_nan_fails_its_request_and_not_its_batch_mates():
    alone = [complete_alone(one) for one in (PROMPT, OTHER)]
    broken = token_only_in(alone[0].tokens, [*OTHER, *alone[1].tokens])
    drive = Drive(nan_on=broken)
    first, second = drive.submit(PROMPT), drive.submit(OTHER)
    drive.finish()
    failed = drive.outcome(first)
    assert isinstance(failed.error, RunnerError)
    assert "answered with NaN" in str(failed.error)
    assert failed.tokens == alone[0].tokens[: len(failed.tokens)]
    assert failed.tokens[-1] == broken
    assert drive.outcome(second) == alone[1]


def test_nan_in_the_prompt_fails_the_request():
    drive = Drive(nan_on=5)
    number = drive.submit(PROMPT)
    drive.finish()
    assert "answered with NaN" in str(drive.outcome(number).error)
    assert drive.engine.stats()["num_free_slots"] == 4


def test_runner_error_in_a_prompt_fails_only_that_request():
    alone = complete_alone(OTHER)
    drive = Drive(fail_on=token_only_in([90, 91, 92, 93], [*OTHER, *alone.tokens]))
    failing = drive.submit([1, drive.runner.fail_on])
    drive.step()
    number = drive.submit(OTHER)
    drive.finish()
    assert drive.outcome(number) == alone
    assert "was told to fail" in str(drive.outcome(failing).error)


def test_runner_error_fails_what_the_step_touched_and_the_engine_goes_on():
    alone = complete_alone(PROMPT)
    long_prompt = [2] * 40
    expected = complete_alone(long_prompt, max_tokens=2)
    broken = token_only_in(alone.tokens, [*OTHER, 2, *expected.tokens])
    drive = Drive(fail_on=broken, prefill_chunk=2)
    touched = [drive.submit(PROMPT), drive.submit(OTHER)]
    while drive.engine.scheduler.waiting or len(drive.events) < 2:
        drive.step()
    prefilling = drive.submit(long_prompt, max_tokens=2)
    drive.finish()
    assert all(isinstance(drive.outcome(one).error, RunnerError) for one in touched)
    assert drive.outcome(prefilling) == expected
    assert drive.engine.stats()["num_free_slots"] == 4


def test_stats_count_what_happened():
    drive = Drive(num_slots=2, prefill_chunk=4)
    for _ in range(3):
        drive.submit(PROMPT, max_tokens=3)
    drive.step()
    expected = {"num_slots": 2, "num_free_slots": 0, "num_running": 2, "num_waiting": 1}
    assert drive.engine.stats().items() >= expected.items()
    drive.finish()
    stats = drive.engine.stats()
    assert stats["num_free_slots"] == 2
    assert stats["num_tokens"] == 9
    assert stats["num_steps"] == len(drive.runner.batches)


@pytest.mark.parametrize("name", ["max_waiting", "prefill_chunk"])
def test_options_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0, the least is 1"):
        EngineOptions(**{name: 0})


def test_idle_engine_steps_to_nothing():
    drive = Drive()
    assert not drive.engine.has_work
    assert drive.step() == []
    assert drive.runner.batches == []
