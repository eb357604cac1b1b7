"""People edit, and every keystroke asks again: reuse and speculation change no token of it."""

from dataclasses import dataclass

from driving import TABLE, Drive, complete_alone
from hypothesis import event, given, settings
from hypothesis import strategies as st

CONTEXT = 32


@dataclass(frozen=True)
class Edit:
    """One change of a document and the request that follows it, a few steps after the last."""

    at: float
    num_deleted: int
    inserted: tuple[int, ...]
    num_steps: int
    cancels_last: bool
    document: int
    asked: dict


EDITS = st.builds(
    Edit,
    at=st.sampled_from([0.0, 0.5, 0.8, 0.9, 1.0, 1.0]),
    num_deleted=st.integers(0, 6),
    inserted=st.lists(st.integers(0, len(TABLE) - 1), max_size=8).map(tuple),
    num_steps=st.integers(0, 12),
    cancels_last=st.booleans(),
    document=st.integers(0, 1),
    asked=st.fixed_dictionaries(
        {
            "max_tokens": st.integers(1, 12),
            "temperature": st.sampled_from([0.0, 1.0]),
            "top_k": st.sampled_from([0, 5]),
            "seed": st.integers(0, 3),
            "user": st.sampled_from(["", "a", "b"]),
        }
    ),
)
SCRIPTS = st.lists(EDITS, min_size=2, max_size=12)
BEGINNING = st.lists(st.integers(0, len(TABLE) - 1), min_size=1, max_size=40)
SHAPES = st.fixed_dictionaries(
    {
        "num_slots": st.sampled_from([1, 2, 3, 8]),
        "prefill_chunk": st.integers(1, 9),
        "echo": st.sampled_from([0.0, 9.0]),
        "options": st.fixed_dictionaries({"isolate_users": st.booleans()}),
    }
)


def play(drive, script, beginning):
    """Submit each edit's prompt when its time comes; (number, prompt) of each."""
    documents = [list(beginning), list(beginning)]
    sent = []
    for edit in script:
        document = documents[edit.document]
        start = round(edit.at * len(document))
        document[start : start + edit.num_deleted] = edit.inserted
        if not document:
            document.append(1)
        if edit.cancels_last and sent:
            drive.cancel(sent[-1][0])
        prompt = tuple(document)
        sent.append((drive.submit(prompt, truncate="left", **edit.asked), prompt))
        for _ in range(edit.num_steps):
            drive.step()
    drive.finish()
    return sent


@settings(max_examples=150)
@given(SCRIPTS, BEGINNING, SHAPES)
def test_edit_script_brings_what_fresh_engines_bring(script, beginning, shape):
    drive = Drive(context=CONTEXT, **shape)
    for edit, (number, prompt) in zip(script, play(drive, script, beginning), strict=True):
        found = drive.outcome(number)
        alone = complete_alone(prompt, None, CONTEXT, shape["echo"], truncate="left", **edit.asked)
        if found.reason == "cancelled":
            assert found.tokens == alone.tokens[: len(found.tokens)]
        else:
            assert found == alone
    stats = drive.engine.stats()
    assert stats["num_free_slots"] == shape["num_slots"]
    assert stats["prefix_hit_tokens"] <= stats["prefix_lookup_tokens"]
    event(f"hits: {stats['prefix_hit_tokens'] > 0}, accepted: {stats['num_accepted'] > 0}")
