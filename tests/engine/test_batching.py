"""Continuous batching changes nothing: each request in a mix fares as it would alone."""

from dataclasses import dataclass
from typing import Any

from driving import TABLE, Drive, complete_alone, cut_at_first_stop, vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

CONTEXT = 24
END_OF_TEXT = 50
TOKENS = st.integers(0, len(TABLE) - 1)


@dataclass(frozen=True)
class Job:
    """One request of a mix: it comes before step `arrival`, and may be cancelled steps later."""

    prompt: tuple[int, ...]
    arrival: int
    cancel_after: int | None
    asked: dict[str, Any]


ASKED = st.fixed_dictionaries(
    {
        "max_tokens": st.integers(1, CONTEXT),
        "temperature": st.sampled_from([0.0, 0.7, 3.0]),
        "top_k": st.sampled_from([0, 1, 5, 20]),
        "top_p": st.sampled_from([0.6, 1.0]),
        "seed": st.integers(0, 3),
        "stop": st.lists(st.sampled_from(["a", "!!", " t", "é", "b\n"]), max_size=2).map(tuple),
        "ignore_eos": st.booleans(),
    }
)
JOBS = st.lists(
    st.builds(
        Job,
        prompt=st.lists(TOKENS, min_size=1, max_size=CONTEXT).map(tuple),
        arrival=st.integers(0, 15),
        cancel_after=st.none() | st.integers(0, 25),
        asked=ASKED,
    ),
    min_size=1,
    max_size=6,
)
SHAPES = st.fixed_dictionaries(
    {
        "num_slots": st.integers(1, 4),
        "prefill_chunk": st.integers(1, 9),
        "echo": st.sampled_from([0.0, 9.0]),
        "context": st.just(CONTEXT),
    }
)


def run(drive, jobs):
    """Run a mix to its end; number of each job."""
    numbers = {}
    clock = 0
    while len(numbers) < len(jobs) or drive.engine.has_work:
        for index, job in enumerate(jobs):
            if job.arrival == clock:
                numbers[index] = drive.submit(job.prompt, **job.asked)
            if job.cancel_after is not None and job.arrival + job.cancel_after == clock:
                drive.cancel(numbers[index])
        drive.step()
        clock += 1
    return [numbers[index] for index in range(len(jobs))]


@given(JOBS, SHAPES)
def test_every_request_fares_in_a_mix_as_it_does_alone(jobs, shape):
    drive = Drive(END_OF_TEXT, **shape)
    for number, job in zip(run(drive, jobs), jobs, strict=True):
        found = drive.outcome(number)
        alone = complete_alone(job.prompt, END_OF_TEXT, CONTEXT, shape["echo"], **job.asked)
        if found.reason == "cancelled":
            assert found.tokens == alone.tokens[: len(found.tokens)]
        else:
            assert found == alone
    assert drive.engine.stats()["num_free_slots"] == shape["num_slots"]


@settings(max_examples=50)
@given(JOBS, SHAPES, st.none() | TOKENS, st.none() | TOKENS)
def test_every_request_ends_in_exactly_one_final_event(jobs, shape, fail_on, nan_on):
    drive = Drive(END_OF_TEXT, fail_on=fail_on, nan_on=nan_on, **shape)
    for number in run(drive, jobs):
        drive.outcome(number)  # asserts that its last event is final, and no other
    assert drive.engine.stats()["num_free_slots"] == shape["num_slots"]


@settings(max_examples=50)
@given(JOBS, SHAPES)
def test_text_and_usage_are_those_of_the_tokens(jobs, shape):
    drive = Drive(END_OF_TEXT, **shape)
    tokenizer = vocabulary(END_OF_TEXT)
    for number, job in zip(run(drive, jobs), jobs, strict=True):
        found = drive.outcome(number)
        assert found.usage.prompt_tokens == len(job.prompt)
        assert found.usage.completion_tokens == len(found.tokens)
        decoded = tokenizer.decode(found.tokens)
        cut = cut_at_first_stop(decoded, job.asked["stop"])
        assert found.text == (decoded if cut is None else cut)
        # What the unary door does with the text's length gives the streamed text again.
        assert decoded.encode()[: len(found.text.encode())].decode() == found.text
