"""A signed token (JWT) in, the caller it speaks of out.

HS256 is checked with the shared secret, RS256 with a public key of the JWKS file, and neither with
the other's key: what a token says of its algorithm only chooses between the two. A token can't be
revoked before it expires. Knows neither headers nor the database, nor how tokens are made.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from gateway.errors import ConfigError, Unauthorized
from gateway.identity.credentials import refused
from gateway.identity.key_set import KeySet
from gateway.identity.keys import MAX_LIMIT, TENANT
from gateway.messages import Caller, KeyLimits

MIN_SECRET_BYTES = 32  # of HS256's digest (RFC 7518, section 3.2)
MAX_PREFIX_CHARS = 40
_SUBJECT = re.compile(r"[!-~]{1,128}")  # printable ASCII: it is stored and logged
_WHOLE = ("requests_per_minute", "tokens_per_minute", "max_concurrent")


@dataclass(frozen=True, slots=True)
class JwtConfig:
    """Which tokens are accepted; at least one of `secret` and `jwks_file`."""

    audience: str
    issuer: str | None = None
    secret: str | None = field(default=None, repr=False)
    jwks_file: Path | None = None
    leeway_s: float = 30.0  # by which the clocks of signer and gateway may differ

    def __post_init__(self) -> None:
        if not self.audience:
            raise ConfigError("tokens need an audience: give the name of this service")
        if self.secret is None and self.jwks_file is None:
            raise ConfigError("tokens need a secret (HS256) or a JWKS file (RS256)")
        if self.secret is not None:
            check_secret(self.secret)
        if not 0 <= self.leeway_s <= 300:
            raise ConfigError(f"the leeway is {self.leeway_s:g} s: give 0 to 300")


class TokenReader:
    """Checks tokens."""

    def __init__(self, config: JwtConfig) -> None:
        """Raises ConfigError for a JWKS file that can't be used."""
        self._config = config
        self._key_set = None if config.jwks_file is None else KeySet(config.jwks_file)

    def read(self, text: str) -> Caller:
        """Who the token speaks of; raises Unauthorized."""
        try:
            return caller_of(self._claims(text))
        except jwt.ExpiredSignatureError:
            raise refused("the token expired: get another", code="token_expired") from None
        except jwt.InvalidAudienceError:
            raise _refused("is for another audience") from None
        except jwt.InvalidIssuerError:
            raise _refused("is of another issuer") from None
        except (jwt.ImmatureSignatureError, jwt.InvalidIssuedAtError):
            raise _refused("is of a time to come: see that the clocks are right") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"lacks the claim {error.claim}") from None
        except BadClaim as error:
            raise _refused(f"has {error}") from None
        # Infinite times, and deep JSON in older releases, leave the library as they are.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise _refused("is not valid") from None

    def _claims(self, text: str) -> dict[str, Any]:
        """What a token says, once its signature, times, audience and issuer are right."""
        header = jwt.get_unverified_header(text)
        key: str | RSAPublicKey | None = None
        algorithm = str(header.get("alg"))
        if algorithm == "HS256":
            key = self._config.secret
        elif algorithm == "RS256" and self._key_set is not None:
            key = self._key_set.find(header.get("kid"))
        if key is None:
            raise jwt.InvalidKeyError
        return jwt.decode(
            text,
            key,
            algorithms=[algorithm],
            audience=self._config.audience,
            issuer=self._config.issuer,
            leeway=self._config.leeway_s,
            options={"require": ["exp", "sub", "aud"]},
        )


def read_secret(path: Path) -> str:
    """The secret that a file holds, without the newline at its end; raises ConfigError."""
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the secret file {path} can't be read: {error}") from error
    check_secret(secret)
    return secret


def check_secret(secret: str) -> None:
    """Raise ConfigError for a secret that could be guessed."""
    if (size := len(secret.encode())) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"the secret has {size} bytes, fewer than {MIN_SECRET_BYTES}: make one with "
            "`openssl rand -hex 32`"
        )


class BadClaim(ValueError):
    """A claim that has no meaning here."""


def caller_of(claims: Mapping[str, Any]) -> Caller:
    """Who the claims speak of; raises BadClaim."""
    subject = claims["sub"]
    if not _SUBJECT.fullmatch(subject):
        raise BadClaim("a sub of other than 1 to 128 printable characters")
    identity = f"jwt:{subject}"
    tenant = claims.get("tenant", identity)
    if tenant is not identity and not (isinstance(tenant, str) and TENANT.fullmatch(tenant)):
        raise BadClaim("a tenant of other than 1 to 64 letters, digits, . _ or -")
    role = claims.get("role", "user")
    if role not in ("user", "admin"):
        raise BadClaim("a role that is neither user nor admin")
    limits = _limits(claims.get("limits", {}))
    return Caller(identity, identity[:MAX_PREFIX_CHARS], tenant, role, limits)


def _limits(claimed: object) -> KeyLimits:
    if not isinstance(claimed, dict) or not claimed.keys() <= {
        one.name for one in fields(KeyLimits)
    }:
        raise BadClaim("limits that are not the gateway's")
    for name, value in claimed.items():
        kinds = (int,) if name in _WHOLE else (int, float)
        if type(value) not in kinds or not math.isfinite(value) or not 0 <= value <= MAX_LIMIT:
            raise BadClaim(f"{name} of other than 0 to {MAX_LIMIT}")
    return KeyLimits(**claimed)


def _refused(what: str) -> Unauthorized:
    return refused(f"the token {what}", code="invalid_token")
