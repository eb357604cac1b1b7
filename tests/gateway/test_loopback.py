"""The open door opens to one's own machine alone, and not to pages of the web."""

import pytest

from gateway.errors import ConfigError, Forbidden
from gateway.identity.loopback import check_local, check_open


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_may_be_open(host: str) -> None:
    check_open(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "10.0.0.1", "example.org", "localhost.evil.org", "127.1"]
)
def test_other_addresses_may_not_be_open(host: str) -> None:
    with pytest.raises(ConfigError, match="--open lets everyone in"):
        check_open(host)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost:8080"},
        {"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080"},
        {"host": "[::1]:8080"},
    ],
)
def test_own_machine_is_let_in(headers: dict[str, str]) -> None:
    check_local(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "rebound.evil.org:8080"},
        {"host": "localhost", "origin": "https://evil.org"},
        {"host": "localhost", "Origin": "null"},
        {"host": "localhost", "origin": "http://localhost.evil.org"},
        {"host": "localhost@evil.org"},
        {"host": "[::1"},
        {"host": ""},
    ],
)
def test_page_of_another_site_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="not this machine"):
        check_local(headers)
