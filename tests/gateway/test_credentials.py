"""The header parser: one good credential gets through, whatever else comes is refused."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from gateway.errors import Unauthorized
from gateway.identity.credentials import (
    MAX_CHARS,
    KeyCredential,
    TokenCredential,
    digest_key,
    read_credential,
)

SECRET = "s" * 43
KEY = f"nt_ab12cd34_{SECRET}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"AUTHORIZATION": f"BEARER   {KEY} "},
        {"X-API-Key": KEY},
        {"x-api-key": f" {KEY}"},
    ],
)
def test_key_is_read_as_its_prefix_and_digest(headers: dict[str, str]) -> None:
    assert read_credential(headers) == KeyCredential("nt_ab12cd34", digest_key(KEY))


def test_token_is_told_from_a_key() -> None:
    assert read_credential({"Authorization": "Bearer aa.bb.cc"}) == TokenCredential("aa.bb.cc")


@pytest.mark.parametrize("text", [KEY, "aa.bb.cc"], ids=["key", "token"])
def test_credential_does_not_show_what_it_holds(text: str) -> None:
    shown = repr(read_credential({"X-API-Key": text}))
    assert SECRET not in shown
    assert "aa.bb.cc" not in shown


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, "no key"),
        ({"Authorization": ""}, "no bearer"),
        ({"Authorization": "Bearer"}, "no bearer"),
        ({"Authorization": "Bearer "}, "no bearer"),
        ({"Authorization": "Basic dXNlcjpwYXNz"}, "no bearer"),
        ({"Authorization": KEY}, "no bearer"),
        ({"Authorization": f"Bearer {KEY} {KEY}"}, "no bearer"),
        ({"Authorization": f"Bearer {KEY}", "X-API-Key": KEY}, "2 credentials"),
        ({"Authorization": f"Bearer {KEY}", "authorization": f"Bearer {KEY}"}, "2 credentials"),
        ({"Authorization": "Bearer " + "a" * MAX_CHARS}, "at most"),
        ({"X-API-Key": ""}, "neither"),
        ({"X-API-Key": KEY + "x"}, "neither"),
        ({"X-API-Key": KEY + "\n"}, "neither"),
        ({"X-API-Key": KEY.upper()}, "neither"),
        ({"X-API-Key": "nt_ab12cd3ä_" + SECRET}, "neither"),
        ({"X-API-Key": "nt_ab12cd34_" + "\u0661" * 43}, "neither"),
        ({"X-API-Key": "' OR 1=1 --"}, "neither"),
        ({"Authorization": f"Bearer {KEY}\r\nX-Role: admin"}, "neither|no bearer"),
        ({"Authorization": f"Bearer {KEY}, Bearer {KEY}"}, "no bearer"),
    ],
)
def test_doubtful_credential_is_refused(headers: dict[str, str], told: str) -> None:
    with pytest.raises(Unauthorized, match=told) as raised:
        read_credential(headers)
    assert raised.value.headers["WWW-Authenticate"].startswith('Bearer realm="nanotriton"')
    assert SECRET not in raised.value.message


def test_second_authorization_header_is_seen() -> None:
    twice = Headers(raw=[(b"authorization", f"Bearer {KEY}".encode())] * 2)
    with pytest.raises(Unauthorized, match="2 credentials"):
        read_credential(twice)


@given(
    st.dictionaries(
        st.sampled_from(["Authorization", "X-API-Key", "x-api-key", "Cookie"]),
        st.text() | st.text().map("Bearer {}".format) | st.just(f"Bearer {KEY}"),
    )
)
@example({"Authorization": f"Bearer\t{KEY}"})
@example({"Authorization": f"Bearer {KEY}\x00"})
def test_any_headers_give_a_credential_of_known_form_or_a_refusal(headers: dict[str, str]) -> None:
    try:
        found = read_credential(headers)
    except Unauthorized:
        return
    if isinstance(found, KeyCredential):
        assert re.fullmatch(r"nt_[a-z0-9]{8}", found.prefix)
        assert re.fullmatch(r"[0-9a-f]{64}", found.digest)
    else:
        assert found.text.isascii()
        assert found.text.count(".") == 2
