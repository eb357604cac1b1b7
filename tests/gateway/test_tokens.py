"""Signed tokens: the good ones, and every known way to forge one."""

import base64
import hashlib
import hmac
import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from gateway.errors import ConfigError, Unauthorized
from gateway.identity import JwtConfig
from gateway.identity.key_set import read_keys
from gateway.identity.minting import Signer, mint_token
from gateway.identity.tokens import TokenReader, read_secret
from gateway.messages import Caller, KeyLimits

SECRET = "0123456789abcdef" * 4
HS256 = Signer("HS256", SECRET)
CLAIMS = {"sub": "ada", "aud": "nanotriton"}
HOUR = timedelta(hours=1)
PRIVATE = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
PUBLIC_PEM = PRIVATE.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
PEM = PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()


def jwk(key: Any, kid: str = "one", **more: Any) -> dict[str, Any]:
    return {**RSAAlgorithm.to_jwk(key, as_dict=True), "kid": kid, "use": "sig", **more}


@pytest.fixture
def jwks_file(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [jwk(PRIVATE.public_key())]}))
    return path


@pytest.fixture
def reader(jwks_file: Path) -> TokenReader:
    return TokenReader(JwtConfig("nanotriton", secret=SECRET, jwks_file=jwks_file))


def now() -> datetime:
    return datetime.now(timezone.utc)


def hs256(key: str = SECRET, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token signed as told, with claims that the gateway's own command would not make."""
    whole = {**CLAIMS, "exp": now() + HOUR, **claims}
    kept = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(kept, key, algorithm="HS256", headers=headers)


def by_hand(header: dict[str, Any], claims: dict[str, Any], key: bytes) -> str:
    """What the library refuses to make."""
    words = [
        base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims)
    ]
    signature = hmac.digest(key, b".".join(words), hashlib.sha256)
    return b".".join([*words, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize("signer", [HS256, Signer("RS256", PEM, "one")], ids=["HS256", "RS256"])
def test_minted_token_tells_its_caller(reader: TokenReader, signer: Signer) -> None:
    token = mint_token({**CLAIMS, "role": "admin"}, signer, now=now(), ttl=HOUR)

    assert reader.read(token) == Caller("jwt:ada", "jwt:ada", "jwt:ada", "admin", KeyLimits())


def test_token_carries_tenant_and_limits(reader: TokenReader) -> None:
    caller = reader.read(
        hs256(tenant="acme", limits={"requests_per_minute": 5, "hard_budget": 2.5})
    )

    assert caller.tenant == "acme"
    assert caller.limits == KeyLimits(requests_per_minute=5, hard_budget=2.5)


@pytest.mark.parametrize(
    ("claims", "code", "told"),
    [
        ({"exp": 1}, "token_expired", "expired"),
        ({"exp": None}, "invalid_token", "lacks the claim exp"),
        ({"exp": float("nan")}, "invalid_token", "not valid"),
        ({"exp": float("inf")}, "invalid_token", "not valid"),
        ({"exp": "soon"}, "invalid_token", "not valid"),
        ({"nbf": 2**33}, "invalid_token", "time to come"),
        ({"iat": 2**33}, "invalid_token", "time to come"),
        ({"aud": "elsewhere"}, "invalid_token", "another audience"),
        ({"aud": None}, "invalid_token", "lacks the claim aud"),
        ({"sub": None}, "invalid_token", "lacks the claim sub"),
        ({"sub": ""}, "invalid_token", "a sub"),
        ({"sub": "ada\nroot"}, "invalid_token", "a sub"),
        ({"sub": "a" * 129}, "invalid_token", "a sub"),
        ({"role": "root"}, "invalid_token", "a role"),
        ({"role": ["admin"]}, "invalid_token", "a role"),
        ({"tenant": "jwt:eve"}, "invalid_token", "a tenant"),
        ({"tenant": ""}, "invalid_token", "a tenant"),
        ({"tenant": ["acme"]}, "invalid_token", "a tenant"),
        ({"limits": []}, "invalid_token", "limits"),
        ({"limits": {"unlimited": 1}}, "invalid_token", "limits"),
        ({"limits": {"max_concurrent": True}}, "invalid_token", "max_concurrent"),
        ({"limits": {"max_concurrent": -1}}, "invalid_token", "max_concurrent"),
        ({"limits": {"hard_budget": float("nan")}}, "invalid_token", "hard_budget"),
    ],
)
def test_claim_without_meaning_is_refused(
    reader: TokenReader, claims: dict[str, Any], code: str, told: str
) -> None:
    with pytest.raises(Unauthorized, match=told) as raised:
        reader.read(hs256(**claims))
    assert raised.value.code == code
    assert "WWW-Authenticate" in raised.value.headers


def test_issuer_is_checked_where_one_is_set() -> None:
    reader = TokenReader(JwtConfig("nanotriton", issuer="https://id", secret=SECRET))

    assert reader.read(hs256(iss="https://id")).key_id == "jwt:ada"
    for claims in ({"iss": "https://evil"}, {}):
        with pytest.raises(Unauthorized, match=r"another issuer|lacks the claim iss"):
            reader.read(hs256(**claims))


@pytest.mark.parametrize(
    ("offset_s", "is_good"),
    [(-20, True), (-40, False)],
    ids=["within the leeway", "beyond it"],
)
def test_clocks_may_differ_by_the_leeway(reader: TokenReader, offset_s: int, is_good: bool) -> None:
    expired = hs256(exp=now() + timedelta(seconds=offset_s))
    from_ahead = hs256(nbf=now() - timedelta(seconds=offset_s))

    for token in (expired, from_ahead):
        if is_good:
            assert reader.read(token)
        else:
            with pytest.raises(Unauthorized):
                reader.read(token)


def forgeries() -> dict[str, str]:
    claims = {**CLAIMS, "exp": 2**33, "role": "admin"}
    none = by_hand({"alg": "none"}, claims, b"").rsplit(".", 1)[0]
    header, _, signature = hs256().split(".")
    other = hs256(role="admin").split(".")[1]
    deep = base64.urlsafe_b64encode(b'{"a":' * 400 + b"[" * 400).rstrip(b"=").decode()
    return {
        "alg none": f"{none}.AA",
        "alg None": by_hand({"alg": "None"}, claims, b""),
        "no alg": by_hand({}, claims, SECRET.encode()),
        "alg is a list": by_hand({"alg": ["HS256"]}, claims, SECRET.encode()),
        "HS512": jwt.encode(claims, SECRET, algorithm="HS512"),
        "public key as HS256 secret": by_hand({"alg": "HS256", "kid": "one"}, claims, PUBLIC_PEM),
        "HS256 secret under RS256": by_hand(
            {"alg": "RS256", "kid": "one"}, claims, SECRET.encode()
        ),
        "another secret": hs256("x" * 64),
        "another RSA key": jwt.encode(claims, OTHER, algorithm="RS256", headers={"kid": "one"}),
        "unknown kid": jwt.encode(claims, PRIVATE, algorithm="RS256", headers={"kid": "two"}),
        "no kid": jwt.encode(claims, PRIVATE, algorithm="RS256"),
        "kid is a path": jwt.encode(
            claims, PRIVATE, algorithm="RS256", headers={"kid": "../../../dev/null"}
        ),
        "kid is SQL": by_hand({"alg": "RS256", "kid": "' OR 1=1 --"}, claims, b""),
        "kid is a list": by_hand({"alg": "RS256", "kid": ["one"]}, claims, b""),
        "own key in the header": jwt.encode(
            claims, OTHER, algorithm="RS256", headers={"jwk": jwk(OTHER.public_key())}
        ),
        "crit": hs256(headers={"crit": ["exp"]}),
        "claims swapped": f"{header}.{other}.{signature}",
        "signature cut": hs256()[:-4],
        "header is no JSON": f"AAAA.{other}.{signature}",
        "header is a list": by_hand([], claims, SECRET.encode()),  # type: ignore[arg-type]
        "deeply nested header": f"{deep}.{other}.{signature}",
    }


@pytest.mark.parametrize("token", forgeries().values(), ids=forgeries())
def test_forged_token_is_refused(reader: TokenReader, token: str) -> None:
    with pytest.raises(Unauthorized, match="the token is not valid"):
        reader.read(token)


def test_algorithm_without_a_key_of_its_kind_is_refused(jwks_file: Path) -> None:
    by_file = TokenReader(JwtConfig("nanotriton", jwks_file=jwks_file))
    by_secret = TokenReader(JwtConfig("nanotriton", secret=SECRET))

    for reader, signer in ((by_file, HS256), (by_secret, Signer("RS256", PEM, "one"))):
        with pytest.raises(Unauthorized, match="not valid"):
            reader.read(mint_token(CLAIMS, signer, now=now(), ttl=HOUR))


def replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, path)


def test_changed_key_file_is_read_again(reader: TokenReader, jwks_file: Path) -> None:
    token = mint_token(CLAIMS, Signer("RS256", PEM, "two"), now=now(), ttl=HOUR)
    replace(jwks_file, json.dumps({"keys": [jwk(PRIVATE.public_key(), "two")]}))

    assert reader.read(token).key_id == "jwt:ada"


def test_spoilt_key_file_leaves_the_former_keys(
    reader: TokenReader, jwks_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = mint_token(CLAIMS, Signer("RS256", PEM, "one"), now=now(), ttl=HOUR)
    replace(jwks_file, '{"keys": [')

    assert reader.read(token).key_id == "jwt:ada"
    assert "former keys stay in force" in caplog.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is not"),
        ("[]", "is not"),
        ('{"keys": []}', "has no key"),
        ("[" * 100_000, "is not"),
        (json.dumps({"keys": [{"kty": "oct", "kid": "one", "k": "c2VjcmV0"}]}), "not for RS256"),
        (json.dumps({"keys": [jwk(PRIVATE)]}), "is private"),
        (json.dumps({"keys": [jwk(PRIVATE.public_key(), alg="HS256")]}), "not for RS256"),
        (json.dumps({"keys": [jwk(rsa.generate_private_key(65537, 1024).public_key())]}), "1024"),
    ],
    ids=["empty", "list", "none", "deep", "symmetric", "private", "other alg", "short"],
)
def test_key_file_that_can_not_be_used_is_refused(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told):
        read_keys(path)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"audience": "", "secret": SECRET}, "audience"),
        ({"audience": "nanotriton"}, "a secret"),
        ({"audience": "nanotriton", "secret": "short"}, "5 bytes"),
        ({"audience": "nanotriton", "secret": SECRET, "leeway_s": 3600}, "leeway"),
        ({"audience": "nanotriton", "jwks_file": Path("/nowhere")}, "can't be read"),
    ],
)
def test_settings_that_would_let_others_in_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        TokenReader(JwtConfig(**values))


def test_secret_is_not_shown_and_read_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")

    secret = read_secret(tmp_path / "secret")

    assert secret == SECRET
    assert SECRET not in repr(JwtConfig("nanotriton", secret=secret))


@pytest.mark.parametrize("ttl", [timedelta(), timedelta(days=31), -HOUR])
def test_token_without_an_end_in_reach_is_not_made(ttl: timedelta) -> None:
    with pytest.raises(ConfigError, match="up to 30d"):
        mint_token(CLAIMS, HS256, now=now(), ttl=ttl)
