"""Whatever comes and goes at whatever step: who takes part in steps, and what they write."""

from collections import Counter
from unittest.mock import patch

from driving import PLAIN, Drive, complete_alone
from hypothesis import given, settings
from hypothesis import strategies as st

from nanotriton.engine import costs
from nanotriton.engine.scheduler import CHUNK_UNIT, MAX_STRETCH

NUM_SLOTS, CONTEXT, CHUNK = 3, 64, 40
STEP_S = 0.010
# A prompt's length, how many tokens it wants, how many steps later the next one comes, and after
# how many of its own events it is cancelled (99: never).
REQUESTS = st.lists(
    st.tuples(
        st.integers(1, CONTEXT), st.integers(1, 20), st.integers(0, 5), st.sampled_from([1, 4, 99])
    ),
    min_size=1,
    max_size=8,
)


def prompt_of(number, length):
    """One that begins as others do, and repeats itself."""
    return [*range(20), *[(number * 7 + at % 9) % 90 for at in range(CONTEXT)]][:length]


class Watched:
    """A Drive whose plans are kept, and checked against what ran before them."""

    def __init__(self, echo=6.0, **options):
        with patch.object(costs, "PROMPT_SHARE", 0.5):  # so dear that chunks are cut short
            self.drive = Drive(num_slots=NUM_SLOTS, prefill_chunk=CHUNK, echo=echo, **options)
        self.plans = []
        self._plan, self.drive.engine.scheduler.plan = self.drive.engine.scheduler.plan, self.plan

    def plan(self, now_s):
        plan = self._plan(now_s)
        if plan:
            running = self.drive.engine.scheduler.running
            prefilling = [one for one in running if one.is_prefilling]
            decoding = [one for one in running if not one.is_prefilling]
            self.check(plan, prefilling, decoding)
            self.plans.append(plan)
        return plan

    def check(self, plan, prefilling, decoding):
        """Every stream gets its token, one prompt goes on, and nobody is there twice."""
        touched = Counter(one.request.key for one in plan.touched)
        assert set(touched.values()) == {1}
        assert {one.request.key for one in decoding} <= touched.keys()
        assert set(plan.decoded) <= set(decoding)
        assert plan.chunked or not prefilling
        slots = [one.slot for one in plan.touched]
        assert len(set(slots)) == len(slots)
        if plan.kind in ("prefill", "mixed"):
            is_short = plan.decoded and len(prefilling) <= len(plan.decoded)
            assert plan.batch.num_chunked <= (CHUNK_UNIT if is_short else CHUNK)

    def run(self, requests):
        """Submit and cancel; by number the events after which each was cancelled."""
        cancelled = {}
        for at, (length, max_tokens, pause, cancel_at) in enumerate(requests):
            number = self.drive.submit(prompt_of(at, length), max_tokens=max_tokens)
            cancelled[number] = cancel_at
            for _ in range(pause):
                self.step(cancelled)
        while self.drive.engine.has_work:
            self.step(cancelled)

    def step(self, cancelled):
        self.drive.step()
        for number, cancel_at in cancelled.items():
            if len(self.drive.events[number]) == cancel_at:
                self.drive.cancel(number)


@settings(max_examples=60)
@given(REQUESTS)
def test_every_step_serves_all_streams_and_one_prompt(requests):
    watched = Watched()
    watched.run(requests)
    assert watched.drive.engine.stats()["num_free_slots"] == NUM_SLOTS


@settings(max_examples=60)
@given(REQUESTS, st.booleans())
def test_texts_are_those_of_requests_alone(requests, is_plain):
    watched = Watched(options=PLAIN if is_plain else {})
    watched.run(requests)
    for number, (length, max_tokens, _, _) in enumerate(requests):
        expected = complete_alone(prompt_of(number, length), echo=6.0, max_tokens=max_tokens)
        found = watched.drive.outcome(number)
        assert found.tokens == expected.tokens[: len(found.tokens)]
        assert found == expected or found.reason == "cancelled"


def test_draft_is_verified_beside_the_other_streams():
    watched = Watched(echo=30.0)
    watched.run([(40, 20, 0, 99), (44, 20, 0, 99), (48, 20, 0, 99)])
    verified = [plan for plan in watched.plans if plan.kind == "verify"]
    assert any(len(plan.decoded) == 2 for plan in verified)
    assert watched.drive.engine.stats()["num_accepted"] > 0


def timed(drive, row_s, token_s):
    """Let the drive's time pass as on a machine where a step, a row and a token cost so much."""
    run, seconds = drive.runner.run, []

    def run_and_pass(batch):
        rows, tokens = batch.num_decoded, batch.num_chunked
        seconds.append(STEP_S + row_s * max(0, rows - 1) + token_s * tokens)
        drive.now_s += seconds[-1]
        return run(batch)

    drive.runner.run = run_and_pass
    return seconds


@settings(max_examples=8)
@given(st.floats(0, STEP_S), st.floats(STEP_S / 100, STEP_S / 20), st.integers(1, 4))
def test_streams_wait_no_longer_for_a_prompt_than_the_stretch(row_s, token_s, num_streams):
    drive = Drive(num_slots=num_streams + 1, context=512, options=PLAIN)
    seconds = timed(drive, row_s, token_s)
    for number in range(num_streams):
        drive.submit([number, 1], max_tokens=200)
    for _ in range(num_streams + 20):
        drive.step()
    alone = seconds[-1]
    for _ in range(2):  # the first one teaches what a token costs
        prompt = drive.submit([7] * 320)
        del seconds[:]
        while not drive.events[prompt]:
            drive.step()
        drive.cancel(prompt)
    assert max(seconds) <= MAX_STRETCH * alone * 1.001
