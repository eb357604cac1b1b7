import pytest
from driving import cut_at_first_stop
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.stops import StopMatcher

# So few letters that stop strings overlap each other and themselves.
TEXT = st.text("abé", max_size=30)
STOPS = st.lists(st.text("abé", min_size=1, max_size=5), max_size=4)
CUTS = st.lists(st.integers(0, 30), max_size=10)


def split(text, cuts):
    """The text in pieces, some of them empty."""
    ends = [*sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def feed(matcher, pieces):
    """What the matcher lets through of each piece, until a stop string came."""
    shown = []
    for piece in pieces:
        shown.append(matcher.push(piece))
        if matcher.stopped:
            break
    return shown


@given(TEXT, CUTS, STOPS)
def test_pieces_joined_are_the_text_up_to_the_first_stop(text, cuts, stops):
    matcher = StopMatcher(stops)
    shown = "".join(feed(matcher, split(text, cuts))) + matcher.flush()
    expected = cut_at_first_stop(text, stops)
    assert shown == (text if expected is None else expected)
    assert matcher.stopped == (expected is not None)


@given(TEXT, CUTS, STOPS)
def test_nothing_that_may_begin_a_stop_string_is_shown_early(text, cuts, stops):
    matcher = StopMatcher(stops)
    taken, shown = "", ""
    for piece in split(text, cuts):
        taken += piece
        shown += matcher.push(piece)
        if matcher.stopped:
            return
        held = taken.removeprefix(shown)
        begun = [stop[:n] for stop in stops for n in range(len(stop))]
        assert held == max((one for one in begun if taken.endswith(one)), key=len, default="")


@pytest.mark.parametrize(
    "pieces", [["abc"], ["ab", "c"], ["a", "b", "c"]], ids=["whole", "two", "letters"]
)
def test_split_does_not_change_which_of_two_stops_comes_first(pieces):
    # A stop string inside another once made the text depend on how tokens cut it.
    matcher = StopMatcher(["abc", "b"])
    assert "".join(feed(matcher, pieces)) == "a"


def test_longer_of_two_stops_that_end_together_is_cut():
    matcher = StopMatcher(["\n", "}\n"])
    assert matcher.push("return {}\nx") == "return {"
    assert matcher.stopped


def test_held_text_comes_out_at_the_end():
    matcher = StopMatcher(["###"])
    assert matcher.push("a##") == "a"
    assert matcher.flush() == "##"
    assert not matcher.stopped


def test_without_stops_nothing_is_held():
    assert StopMatcher(()).push("abc") == "abc"
