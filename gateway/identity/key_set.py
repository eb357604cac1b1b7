"""A JWKS file in, public RSA keys by their `kid` out; read again when the file changes.

A changed file that can't be used leaves the keys as they were and is told in the log: tokens go on.
Knows nothing of tokens.
"""

import json
import logging
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from gateway.errors import ConfigError

MIN_BITS = 2048
_LOG = logging.getLogger(__name__)


class KeySet:
    """The public keys of whoever signs tokens."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file without a usable key."""
        self._path = path
        self._seen = self._version()
        self._keys = read_keys(path)

    def find(self, kid: object) -> RSAPublicKey | None:
        """The key that a token names."""
        if (version := self._version()) != self._seen:
            self._seen = version
            try:
                self._keys = read_keys(self._path)
            except ConfigError as error:
                _LOG.warning("%s; its former keys stay in force", error)
        return self._keys.get(kid) if isinstance(kid, str) else None

    def _version(self) -> tuple[int, ...]:
        """What differs when the file was written or replaced."""
        try:
            stat = self._path.stat()
        except OSError:
            return ()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def read_keys(path: Path) -> dict[str, RSAPublicKey]:
    """The RSA keys of a file by their kid; raises ConfigError.

    Symmetric keys have no place there: whoever can read the file could sign with them.
    """
    try:
        listed: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["keys"]
        keys = {str(one["kid"]): _public_key(one) for one in listed if one.get("use") != "enc"}
    except OSError as error:
        raise ConfigError(f"the JWKS file {path} can't be read: {error.strerror}") from error
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        jwt.PyJWTError,
    ) as error:
        raise ConfigError(
            f'the JWKS file {path} is not {{"keys": [...]}} of RSA keys with kid: {error}'
        ) from error
    if not keys:
        raise ConfigError(f"the JWKS file {path} has no key to verify signatures with: add one")
    return keys


def _public_key(described: dict[str, Any]) -> RSAPublicKey:
    if described.get("kty") != "RSA" or described.get("alg", "RS256") != "RS256":
        raise ValueError(f"key {described['kid']!r} is not for RS256")
    key = RSAAlgorithm.from_jwk(described)
    if not isinstance(key, RSAPublicKey):
        raise ValueError(f"key {described['kid']!r} is private, which the gateway must not have")
    if key.key_size < MIN_BITS:
        raise ValueError(f"key {described['kid']!r} has {key.key_size} bits, less than {MIN_BITS}")
    return key
