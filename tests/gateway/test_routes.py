"""Routes keep a person with one backend, spread people by weight, and go round what is away."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidRequest, NotFound, Unavailable
from gateway.messages import Caller, CompletionRequest
from gateway.routing.document import Backend, Document, Told, document_json, read_document
from gateway.routing.routes import Routes

NUM_PEOPLE = 4000
ANN = Caller("key", "nt_test", "acme")


def request(model: str | None = None, user: str | None = None, **more: str) -> CompletionRequest:
    return CompletionRequest(
        more.pop("id", "cmpl-1"), "p", {}, False, 9.0, model, user=user, **more
    )


def routes(*backends: Backend, away: tuple[str, ...] = (), salt: str = "x") -> Routes:
    return Routes(Document(backends, salt), lambda one: one.name not in away)


def split(stable: float, canary: float, salt: str = "x") -> Routes:
    return routes(Backend("stable", "a:1", stable), Backend("canary", "b:1", canary), salt=salt)


def choices(by: Routes) -> list[str]:
    people = (request(user=f"person {index}") for index in range(NUM_PEOPLE))
    return [by.pick(ANN, one).name for one in people]


@pytest.mark.parametrize("weights", [(9, 1), (1, 1), (99, 1), (1, 0)], ids=str)
def test_people_are_spread_by_weight(weights):
    share = weights[1] / sum(weights)
    sigma = math.sqrt(NUM_PEOPLE * share * (1 - share))

    # A draw beyond 4 sigma has odds of 1 to 16,000; this one is fixed by the salt.
    assert abs(choices(split(*weights)).count("canary") - NUM_PEOPLE * share) <= 4 * sigma


def test_tenth_of_the_weight_moves_a_tenth_of_the_people():
    before, after = choices(split(9, 1)), choices(split(8, 2))
    moved = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]

    assert set(moved) == {("stable", "canary")}
    # 4 sigma of 4,000 draws of 0.1 are 76; the salt fixes them.
    assert abs(len(moved) - NUM_PEOPLE / 10) <= 76


@given(st.text(), st.lists(st.integers(1, 9), min_size=3, max_size=3), st.integers(0, 2), st.text())
def test_more_weight_only_draws_people_to_itself(salt, weights, index, user):
    def pick(weights: list[int]) -> str:
        backends = [Backend(f"b{at}", f"h:{at + 1}", one) for at, one in enumerate(weights)]
        return routes(*backends, salt=salt).pick(ANN, request(user=user)).name

    before = pick(weights)
    weights[index] += 5
    assert pick(weights) in (before, f"b{index}")


@given(st.sampled_from(["id", "session", "user"]), st.text(min_size=1), st.text(min_size=1))
def test_person_is_the_user_else_the_session_else_the_key(kind, one, other):
    by = split(1, 1)
    if kind == "id":
        first, second = request(id=one), request(id=other)
    elif kind == "session":
        first, second = request(session=one, id="1"), request(session=one, id="2")
    else:
        first, second = request(user="u", session=one), request(user="u", session=other)

    assert by.pick(ANN, first) == by.pick(ANN, second)


def test_away_backend_is_gone_round_and_moves_only_its_own():
    three = [Backend(name, f"{name}:1") for name in ("a", "b", "c")]
    before, after = choices(routes(*three)), choices(routes(*three, away=("c",)))

    assert "c" not in after
    assert all(old in (new, "c") for old, new in zip(before, after, strict=True))


def test_backends_that_are_all_away_are_asked_nevertheless():
    one = Backend("a", "a:1")

    assert routes(one, away=("a",)).pick(ANN, request()).name == "a"


def test_backend_that_failed_the_request_is_left_out():
    by = split(1, 1)
    first = by.pick(ANN, request())
    second = by.pick(ANN, request(), without={first.name})

    assert second != first
    with pytest.raises(Unavailable):
        by.pick(ANN, request(), without={first.name, second.name})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("demo", "stable"),
        ("demo@1", "stable"),
        ("demo@2", "canary"),
        ("demo:canary", "canary"),
        ("other", "third"),
        ("other@unknown", "third"),
    ],
)
def test_model_names_a_version_or_a_backend(model, name):
    by = routes(
        Backend("stable", "a:1", 1, "demo", "1"),
        Backend("canary", "b:1", 0, "demo", "2"),
        Backend("third", "c:1", 1, "other"),
    )

    assert {by.pick(ANN, request(model, f"{index}")).name for index in range(50)} == {name}


def test_unknown_model_is_refused_by_name():
    with pytest.raises(NotFound, match="no model 'gpt-9', the models are nanotriton:") as failed:
        split(1, 1).pick(ANN, request("gpt-9"))
    assert failed.value.param == "model"


def test_backend_that_tells_its_version_is_found_by_it():
    by = split(1, 0)
    by.learn(by.backends()[1], Told("7", "int8"))
    found = by.pick(ANN, request("nanotriton@7"))

    assert (found.name, found.model, found.version) == ("canary", "nanotriton", "7")
    assert found.precision == "int8"
    assert "nanotriton:canary" in by.models


def test_given_version_overrules_the_told_one():
    by = routes(Backend("a", "a:1", version="3"))
    by.learn(by.backends()[0], Told("7", "int8"))

    assert (by.backends()[0].version, by.backends()[0].precision) == ("3", "int8")


def test_shadow_gets_its_share_of_others_requests():
    by = routes(Backend("stable", "a:1"), Backend("trial", "b:1", 0, shadow=0.25))
    requests = [request(id=f"cmpl-{index}") for index in range(NUM_PEOPLE)]
    copies = [by.shadow(ANN, one) for one in requests]

    assert {one.name for one in copies if one} == {"trial"}
    # 4 sigma of 4,000 draws of 0.25 are 110; the salt fixes them.
    assert abs(sum(map(bool, copies)) - NUM_PEOPLE / 4) <= 110


def test_backend_that_answers_gets_no_copy():
    by = routes(Backend("stable", "a:1", 0), Backend("trial", "b:1", 1, shadow=1))

    assert by.shadow(ANN, request()) is None


GOOD = {"backends": [{"name": "a", "url": "a:1"}]}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (1, "document is 1"),
        ({}, "backends: Field required"),
        ({"backends": []}, "at least 1"),
        ({**GOOD, "weights": 1}, "weights is 1: Unexpected"),
        ({"backends": [{"name": "a", "url": "a:1", "wieght": 1}]}, "backends.0.wieght is 1: Unex"),
        ({"backends": [{"name": "a", "url": "http://a:1"}]}, "give HOST:PORT"),
        ({"backends": [{"name": "a", "url": "a:0"}]}, "give HOST:PORT"),
        ({"backends": [{"name": "a", "url": "a:1", "metrics": "a"}]}, "metrics is 'a': give"),
        ({"backends": [{"name": "a", "url": "a:1", "weight": 0}]}, "no backend has a weight"),
        ({"backends": [{"name": "a", "url": "a:1", "weight": -1}]}, "weight is -1: "),
        ({"backends": [{"name": "a", "url": "a:1", "weight": math.nan}]}, "weight is nan: "),
        ({"backends": [{"name": "a", "url": "a:1", "weight": "1"}]}, "weight is '1': "),
        ({"backends": [{"name": "a", "url": "a:1", "shadow": 1.1}]}, "shadow is 1.1: "),
        ({"backends": [{"name": "A b", "url": "a:1"}]}, "name is 'A b': "),
        ({"backends": GOOD["backends"] * 2}, "'a' twice"),
        ({**GOOD, "salt": "\x00"}, "salt is "),
        ({**GOOD, "version": 10**30}, "version is 1000"),
    ],
    ids=str,
)
def test_document_with_a_fault_is_refused_by_field(document, words):
    with pytest.raises(InvalidRequest) as failed:
        read_document(document)
    assert words in failed.value.message


def test_document_is_read_as_it_was_written():
    document = split(9, 1).document

    assert read_document(document_json(document)) == document
