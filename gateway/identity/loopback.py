"""The open door: no keys, for one's own machine alone.

Whoever asks is a user and no admin: every program of the machine gets in, and none should change
routes or see others' accounts. A page of the web reaches a loopback port too, through the browser,
so requests that name another host or come from another site are refused.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from gateway.errors import ConfigError, Forbidden
from gateway.messages import Caller

OPEN_CALLER = Caller(key_id="open", prefix="open", tenant="open", role="user")


def check_open(host: str) -> None:
    """Raise ConfigError unless `host`, where the gateway is to listen, is this machine alone."""
    if not _is_loopback(host):
        raise ConfigError(
            f"--open lets everyone in and --host is {host!r}: listen on 127.0.0.1, or leave "
            "--open out and make keys with `python -m gateway keys create`"
        )


def check_local(headers: Mapping[str, str]) -> None:
    """Raise Forbidden for what a browser sends on behalf of another site."""
    told = {name.lower(): value for name, value in headers.items()}
    if "host" in told and not _is_loopback(_hostname(f"//{told['host']}")):
        raise _forbidden("Host")
    if "origin" in told and not _is_loopback(_hostname(told["origin"])):
        raise _forbidden("Origin")


def _forbidden(header: str) -> Forbidden:
    return Forbidden(
        f"{header} is not this machine: an open gateway answers on localhost and to its own page"
    )


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
