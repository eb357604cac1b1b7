"""Headers in, the caller out, or a refusal: the first stage of every request.

Decides by the wall clock whether a key or token is good yet or still, so a clock set back lets an
expired one in again until it is right; revocation and caches don't depend on it. Knows nothing of
what the caller asks for.
"""

import hmac
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone

from gateway.errors import ConfigError, Forbidden
from gateway.identity.credentials import KeyCredential, read_credential, refused
from gateway.identity.keys import Key
from gateway.identity.known_keys import KnownKeys
from gateway.identity.last_used import LastUsed
from gateway.identity.loopback import OPEN_CALLER, check_local
from gateway.identity.tokens import JwtConfig, TokenReader
from gateway.messages import Caller
from gateway.storage import Database

_NO_KEYS_HASH = "0" * 64  # compared where there is no key, so that both take as long


class Guard:
    """Tells who asks; belongs to one event loop."""

    def __init__(
        self,
        database: Database,
        jwt: JwtConfig | None = None,
        open: bool = False,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """Without `jwt` tokens are refused; `open` asks for nothing, see `loopback`."""
        if open and jwt is not None:
            raise ConfigError("--open asks for no token: leave it out, or the JWT options")
        self._is_open = open
        self._tokens = None if jwt is None else TokenReader(jwt)
        self._known = KnownKeys(database, clock)
        self._last_used = LastUsed(database, clock)
        self._now = now

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Who sends these headers.

        Raises Unauthorized, Unavailable when a key can't be looked up, and Forbidden at an open
        door for requests of other sites.
        """
        if self._is_open:
            check_local(headers)
            return OPEN_CALLER
        credential = read_credential(headers)
        if isinstance(credential, KeyCredential):
            key = check_key(await self._known.find(credential.prefix), credential, self._now())
            self._last_used.note(key.id, self._now())
            return key.caller()
        if self._tokens is None:
            raise refused("tokens are not accepted here: send a key (nt_...)", code="invalid_token")
        return self._tokens.read(credential.text)

    async def close(self) -> None:
        """Book when keys were used last, and leave the database; call it before Database.close."""
        await self._last_used.close()
        await self._known.close()


def check_key(key: Key | None, credential: KeyCredential, now: datetime) -> Key:
    """The key, if the credential proves it and it is good at this time; raises Unauthorized.

    One comparison, in constant time, whether or not there is such a key. That a key is revoked or
    expired is told only to whoever has it.
    """
    expected = _NO_KEYS_HASH if key is None else key.hash
    is_proved = hmac.compare_digest(credential.digest, expected)
    if key is None or not is_proved:
        raise refused("this key is not known: see that it was copied whole, or ask for another")
    if key.revoked is not None:
        raise refused(f"the key {key.prefix} was revoked: ask for another")
    if key.expires is not None and key.expires <= now:
        raise refused(f"the key {key.prefix} expired at {key.expires:%Y-%m-%d %H:%M} UTC")
    return key


def require_admin(caller: Caller) -> None:
    """Raise Forbidden unless the caller is an admin."""
    if caller.role != "admin":
        raise Forbidden(
            f"{caller.prefix} has the role {caller.role}: this takes one with the role admin"
        )
