import os
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanotriton.engine.events import Failure, Times, TokenEvent, Usage, Work
from nanotriton.engine.protocol import (
    event_from_message,
    event_to_message,
    find_sockets,
    pack,
    remove_dead_sockets,
    sibling_sockets,
    socket_path,
    unpack,
)
from nanotriton.errors import InvalidRequest, RunnerError, ServerError, Unavailable

NUMBER = st.integers(0, 2**31)
USAGE = st.builds(Usage, NUMBER, NUMBER)
TIMES = st.builds(Times, NUMBER, st.none() | NUMBER, st.none() | NUMBER, NUMBER)
TOKEN_EVENTS = st.builds(
    TokenEvent,
    key=st.tuples(st.just(b""), NUMBER),
    tokens=st.lists(NUMBER).map(tuple),
    text=st.text(),
    finish_reason=st.sampled_from([None, "stop", "length", "cancelled"]),
    usage=st.none() | USAGE,
    work=st.none() | st.builds(Work, NUMBER, NUMBER, NUMBER, NUMBER),
    times=st.none() | TIMES,
    index=st.integers(0, 15),
    num_healed=st.integers(0, 9),
)


def carry(event):
    """The event as it arrives on the other side."""
    (message,) = unpack(pack([event_to_message(event)]))
    return event_from_message(message)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder that sockets lie under."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@given(TOKEN_EVENTS)
def test_token_event_survives_the_socket(event):
    assert carry(event) == event


@pytest.mark.parametrize("kind", [InvalidRequest, Unavailable, RunnerError])
def test_failure_keeps_its_kind_and_words(kind):
    times = Times(1, 2, None, 3)
    arrived = carry(Failure((b"", 7), kind("why, and the mend"), times))
    assert arrived.times == times
    assert arrived.key == (b"", 7)
    assert type(arrived.error) is kind
    assert str(arrived.error) == "why, and the mend"


def test_both_doors_find_the_same_socket(temporary):
    repository = temporary / "repository"
    other_spelling = repository / ".." / "repository"
    assert socket_path(repository, 3, 77) == socket_path(other_spelling, 3, 77)


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("other", [("other", 3, 77), ("repository", 4, 77), ("repository", 3, 78)])
def test_another_repository_version_or_server_has_another_socket(other):
    assert socket_path(Path("repository"), 3, 77) != socket_path(Path(other[0]), *other[1:])


def test_deep_repository_still_has_a_short_socket_path():
    deep = Path("/", *["folder"] * 100)
    assert len(bytes(socket_path(deep, 10**6, 4194304))) <= 107


@pytest.mark.usefixtures("temporary")
def test_engine_that_started_last_is_found_last():
    for age, (name, pid) in enumerate([("repository", 9), ("other", 2), ("repository", 1)]):
        path = socket_path(Path(name), 1, pid)
        path.touch()
        os.utime(path, (age, age))
    expected = [socket_path(Path("repository"), 1, pid) for pid in (9, 1)]
    assert find_sockets(Path("repository")) == expected


@pytest.mark.usefixtures("temporary")
def test_siblings_are_the_other_versions_of_the_same_server():
    own, *others = (socket_path(Path("repository"), version, 7) for version in (1, 2, 11))
    strangers = [socket_path(Path("repository"), 2, 77), socket_path(Path("other"), 2, 7)]
    for path in (own, *others, *strangers):
        path.touch()
    assert sorted(sibling_sockets(own)) == sorted(others)


@pytest.mark.usefixtures("temporary")
def test_folder_that_others_can_open_is_refused():
    folder = socket_path(Path("repository"), 1, 1).parent
    folder.chmod(0o755)
    with pytest.raises(ServerError, match="with mode 755, expected your own with mode 700: remove"):
        socket_path(Path("repository"), 1, 1)


def test_sockets_without_a_listener_are_removed(tmp_path):
    live, dead, new = (tmp_path / f"{name}.sock" for name in ("live", "dead", "new"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(live))
        listening.listen()
        for path in (dead, new):
            with socket.socket(socket.AF_UNIX) as gone:
                gone.bind(str(path))
        for path in (live, dead):
            os.utime(path, (0, 0))
        remove_dead_sockets(tmp_path)

    assert live.exists()
    assert new.exists()  # perhaps about to listen
    assert not dead.exists()
