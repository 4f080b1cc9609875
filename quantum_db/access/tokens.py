"""Tokens of an identity provider (JWT, RFC 7519), checked by what is pinned: issuer, audience, algorithms, keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from quantum_db.access.bodies import TENANT
from quantum_db.access.principal import Principal, Role
from quantum_db.errors import InvalidSettings

ASYMMETRIC: Final = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
SYMMETRIC: Final = ("HS256",)
JWT_SECRET_ENV: Final = "QUANTUM_DB_JWT_SECRET"  # noqa: S105 - the name of a variable, not a secret
MAX_TOKEN_CHARS: Final = 8_192
MIN_SECRET_BYTES: Final = 32
_SUBJECT: Final = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class TokenPolicy:
    """What a token must say to be believed.

    Attributes:
        algorithms: the only ones that are taken: some of ``ASYMMETRIC``, or all of ``SYMMETRIC``, never both kinds:
            else a public key could be used as a secret.
        leeway_s: how far the provider's clock may be off.
        tenant_claim: the claim that names the tenant; ``role_claim`` likewise.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    leeway_s: float = 30.0
    tenant_claim: str = "tenant"
    role_claim: str = "role"


class TokenVerifier:
    """Tells whose token it is. A token is of one tenant and never of the whole cluster."""

    def __init__(self, policy: TokenPolicy, keys: Mapping[str, Any]) -> None:
        """Take the keys: by their ids in a JWKS; a single one, whatever its id, is for tokens without an id too.

        Raises:
            InvalidSettings: the algorithms are none, unknown, or of both kinds.
        """
        chosen = frozenset(policy.algorithms)
        if not chosen or not (chosen <= frozenset(ASYMMETRIC) or chosen == frozenset(SYMMETRIC)):
            raise InvalidSettings(
                f"access.jwt.algorithms: some of {', '.join(ASYMMETRIC)}, or HS256 alone, not {sorted(chosen)}"
            )
        self._policy = policy
        self._keys = dict(keys)
        self._only = next(iter(self._keys.values())) if len(self._keys) == 1 else None

    def principal(self, token: str) -> Principal | None:
        """Return who has this token; None if it is not good for any reason."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        policy = self._policy
        try:
            key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""), self._only)
            if key is None:
                return None
            claims = jwt.decode(
                token,
                key,
                algorithms=list(policy.algorithms),
                issuer=policy.issuer,
                audience=policy.audience,
                leeway=policy.leeway_s,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError):  # of a key that does not go with the algorithm, or odd claims
            return None
        return self._stated(claims)

    def _stated(self, claims: Mapping[str, Any]) -> Principal | None:
        subject, tenant = claims["sub"], claims.get(self._policy.tenant_claim)
        if not isinstance(tenant, str) or re.fullmatch(TENANT, tenant) is None:
            return None
        if not isinstance(subject, str) or _SUBJECT.fullmatch(subject) is None:
            return None
        role = claims.get(self._policy.role_claim)
        if not isinstance(role, str) or role.upper() not in Role.__members__ or role != role.lower():
            return None
        return Principal(f"jwt:{subject}", tenant, Role.named(role))


def load_keys(public_key: Path | None, jwks: Path | None, secret: str | None) -> dict[str, Any]:
    """Read the keys, of which there must be one kind: a public key in PEM, a JWKS file, or a secret.

    Raises:
        InvalidSettings: there are none or of several kinds, or they cannot be used.
    """
    if sum(one is not None for one in (public_key, jwks, secret)) != 1:
        raise InvalidSettings("access.jwt needs one of public_key, jwks_file and, for HS256, QUANTUM_DB_JWT_SECRET")
    if secret is not None:
        if len(secret.encode()) < MIN_SECRET_BYTES:
            raise InvalidSettings(f"QUANTUM_DB_JWT_SECRET must have at least {MIN_SECRET_BYTES} bytes")
        return {"": secret.encode()}
    path = public_key or jwks
    assert path is not None
    try:
        content = path.read_bytes()
        if public_key is not None:
            return {"": load_pem_public_key(content)}
        found = [key for key in jwt.PyJWKSet.from_dict(json.loads(content)).keys if key.public_key_use in (None, "sig")]
        return {key.key_id or "": _public(key) for key in found}
    except OSError as error:
        raise InvalidSettings(f"access.jwt: {path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm, jwt.PyJWTError) as error:
        raise InvalidSettings(f"access.jwt: {path} holds no public keys that can be used") from error


def _public(key: jwt.PyJWK) -> Any:
    if key.key_type == "oct":
        raise ValueError("a shared secret")
    return key
