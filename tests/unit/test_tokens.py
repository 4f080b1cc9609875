"""Tokens of an identity provider: what is pinned holds, and the settings that pin it are checked."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from cluster.access_settings import JwtSettings
from quantum_db.access.principal import Principal, Role
from quantum_db.access.tokens import TokenPolicy, TokenVerifier, load_keys
from quantum_db.errors import InvalidSettings

SECRET = "s3" * 30
SIGNERS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def policy(*algorithms: str, leeway_s: float = 5.0) -> TokenPolicy:
    return TokenPolicy("me", "you", algorithms, leeway_s)


def token(algorithm: str, key: Any, headers: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {"iss": "me", "aud": "you", "sub": "jane", "tenant": "a", "role": "writer", "exp": int(time.time()) + 60}
    kept = {name: value for name, value in {**claims, **changes}.items() if value is not None}
    return jwt.encode(kept, key, algorithm, headers=headers)


def pem_file(folder: Path, key: Any) -> Path:
    path = folder / "key.pem"
    path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_good_token_is_its_subjects(tmp_path: Path, algorithm: str) -> None:
    signer = SIGNERS[algorithm]
    verifier = TokenVerifier(policy(algorithm), load_keys(pem_file(tmp_path, signer), None, None))
    assert verifier.principal(token(algorithm, signer)) == Principal("jwt:jane", "a", Role.WRITER)
    for other, key in SIGNERS.items():
        if other != algorithm:
            assert verifier.principal(token(other, key)) is None


def test_the_times_are_kept_with_leeway(tmp_path: Path) -> None:
    signer, now_s = SIGNERS["ES256"], int(time.time())
    verifier = TokenVerifier(policy("ES256"), load_keys(pem_file(tmp_path, signer), None, None))
    for changes, good in (
        ({"exp": now_s - 2}, True),
        ({"exp": now_s - 20}, False),
        ({"nbf": now_s + 2}, True),
        ({"nbf": now_s + 20}, False),
        ({"iat": now_s + 20}, False),
    ):
        assert (verifier.principal(token("ES256", signer, **changes)) is not None) == good, changes


@pytest.mark.parametrize(
    "changes",
    [
        *({name: None} for name in ("iss", "aud", "sub", "tenant", "role", "exp")),
        {"tenant": "a b"},
        {"tenant": ["a"]},
        {"tenant": ""},
        {"role": "king"},
        {"role": 4},
        {"role": "ADMIN"},
        {"sub": "line\nbreak"},
        {"sub": "x" * 200},
        {"exp": "soon"},
        {"aud": ["other"]},
    ],
    ids=str,
)
def test_odd_claims_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    signer = SIGNERS["ES256"]
    verifier = TokenVerifier(policy("ES256"), load_keys(pem_file(tmp_path, signer), None, None))
    assert verifier.principal(token("ES256", signer, **changes)) is None


def test_a_jwks_file_holds_several_keys_by_id(tmp_path: Path) -> None:
    signers = {"one": SIGNERS["ES256"], "two": ec.generate_private_key(ec.SECP256R1())}
    keys = [
        {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": kid, "alg": "ES256", "use": "sig"}
        for kid, key in signers.items()
    ]
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": keys}))
    verifier = TokenVerifier(policy("ES256"), load_keys(None, path, None))
    for kid, signer in signers.items():
        assert verifier.principal(token("ES256", signer, {"kid": kid})) is not None
    assert verifier.principal(token("ES256", signers["one"], {"kid": "two"})) is None
    assert verifier.principal(token("ES256", signers["one"], {"kid": "three"})) is None
    assert verifier.principal(token("ES256", signers["one"])) is None, "which key?"


def test_a_shared_secret_signs_tokens_too() -> None:
    verifier = TokenVerifier(policy("HS256"), load_keys(None, None, SECRET))
    assert verifier.principal(token("HS256", SECRET)) is not None
    assert verifier.principal(token("HS256", SECRET + "x")) is None
    assert verifier.principal(token("HS384", SECRET)) is None


@given(st.text(max_size=200) | st.lists(st.text("abcXYZ019-_=", max_size=40), min_size=3, max_size=3).map(".".join))
def test_no_text_breaks_the_verifier(text: str) -> None:
    assert TokenVerifier(policy("HS256"), {"": SECRET.encode()}).principal(text) is None


def test_keys_that_cannot_be_used_are_told_without_being_shown(tmp_path: Path) -> None:
    private = tmp_path / "private.pem"
    private.write_bytes(SIGNERS["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    shared = tmp_path / "shared.json"
    shared.write_text(json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ"}]}))
    wrong: list[tuple[Path | None, Path | None, str | None]] = [
        (None, None, None),
        (None, None, "short"),
        (private, None, None),
        (None, shared, None),
        (None, private, None),
        (tmp_path / "none", None, None),
        (private, None, SECRET),
    ]
    for given_keys in wrong:
        with pytest.raises(InvalidSettings) as told:
            load_keys(*given_keys)
        assert "short" not in told.value.detail
        assert "c2VjcmV0" not in told.value.detail


def test_algorithms_of_both_kinds_are_refused(tmp_path: Path) -> None:
    for algorithms in ((), ("none",), ("HS256", "RS256"), ("HS512",)):
        with pytest.raises(InvalidSettings):
            TokenVerifier(policy(*algorithms), {})
    path = str(tmp_path / "k")
    usual = {"issuer": "me", "audience": "you"}
    JwtSettings(**usual, algorithms=["RS256", "ES256"], public_key=path)
    JwtSettings(**usual, algorithms=["HS256"])
    for wrong in (
        {"algorithms": ["none"], "public_key": path},
        {"algorithms": ["RS256", "HS256"], "public_key": path},
        {"algorithms": ["RS256"]},
        {"algorithms": ["HS256"], "public_key": path},
        {"algorithms": ["RS256"], "public_key": path, "jwks_file": path},
    ):
        with pytest.raises(ValueError, match=r"must be some of|one of public_key"):
            JwtSettings(**usual, **wrong)
