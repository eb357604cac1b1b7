"""A request's headers in, its one credential out: a key's prefix and digest, or a token's text.

Whatever is doubtful is refused: two credentials, an empty one, one too long or of other letters.
The key itself goes no further than this module. Knows neither keys nor tokens that are good.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.errors import Unauthorized

# Longer than any token of ours: RS256 by a key of 4096 bits takes about 1,000.
MAX_CHARS = 4096
REALM = 'Bearer realm="nanotriton"'
# Prefix and secret; fixed lengths, since the secret's own letters hold the separator.
_KEY = re.compile(r"(nt_[a-z0-9]{8})_[A-Za-z0-9_-]{43}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_BEARER = re.compile(r"bearer +([^ ]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class KeyCredential:
    """What a key shows: the name it is found by, and what is compared."""

    prefix: str
    digest: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """A text of a token's form; nothing about it is proved."""

    text: str = field(repr=False)


def read_credential(headers: Mapping[str, str]) -> KeyCredential | TokenCredential:
    """The credential of `Authorization: Bearer` or `X-API-Key`; raises Unauthorized."""
    text = _only_one(headers)
    if found := _KEY.fullmatch(text):
        return KeyCredential(found[1], digest_key(text))
    if _TOKEN.fullmatch(text):
        return TokenCredential(text)
    raise refused("this is neither a key (nt_...) nor a token: see that it was copied whole")


def digest_key(key: str) -> str:
    """SHA-256 of a whole key, in hexadecimal: what is stored of it.

    bcrypt and the like slow down guessing of words that people choose. A key's secret is 256 bits
    of chance, which no speed of guessing reaches, and each request would pay for the slowness.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def refused(message: str, *, code: str = "invalid_api_key") -> Unauthorized:
    """Unauthorized for a credential that was given and isn't good (RFC 6750, section 3.1)."""
    return Unauthorized(
        message, code=code, headers={"WWW-Authenticate": f'{REALM}, error="invalid_token"'}
    )


def _only_one(headers: Mapping[str, str]) -> str:
    """The one credential's text; `items` of Starlette's headers has each of several."""
    given = [
        (name.lower(), value)
        for name, value in headers.items()
        if name.lower() in ("authorization", "x-api-key")
    ]
    if not given:
        raise Unauthorized(
            "no key: send it as `Authorization: Bearer nt_...`",
            code="missing_api_key",
            headers={"WWW-Authenticate": REALM},
        )
    if len(given) > 1:
        raise refused(f"{len(given)} credentials came: send one, as Authorization or X-API-Key")
    name, value = given[0]
    if len(value) > MAX_CHARS:
        raise refused(f"the credential has {len(value)} characters: at most {MAX_CHARS} are read")
    if name == "x-api-key":
        return value.strip(" ")
    if found := _BEARER.fullmatch(value.strip(" ")):
        return found[1]
    raise refused("Authorization holds no bearer key: send `Authorization: Bearer nt_...`")
