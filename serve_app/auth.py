"""The gate of what is served: who is it, and may they? Decided in the replica, without a call to anybody."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final, Protocol

from quantum_db.access.bodies import TENANT
from quantum_db.access.keys import Key, Token, parsed
from quantum_db.access.policy import OPEN, check_allowed
from quantum_db.access.principal import Principal, Role
from quantum_db.errors import Forbidden, InvalidRequest, Unauthenticated
from quantum_db.scope import DEFAULT_TENANT
from serve_app.gate import TENANT_HEADER, Call

KEY_HEADER: Final = "api-key"
_BEARER: Final = re.compile(r"Bearer +(\S+)", re.IGNORECASE)
_ANYBODY: Final = Principal("anybody", DEFAULT_TENANT, Role.READER)


class Keys(Protocol):
    """Knows keys."""

    def owner(self, token: Token) -> Key | None:
        """Return the key with this id and secret, None if there is none that is good. Raises Unavailable."""


def credential_of(headers: Mapping[str, str]) -> str:
    """Return what a caller shows. Raises Unauthenticated where it is nothing."""
    shown = headers.get(KEY_HEADER)
    if shown is not None:
        return shown.strip()
    found = _BEARER.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise Unauthenticated("show a key, as `api-key: <key>` or as `Authorization: Bearer <key>`")
    return found[1]


def of_tenant(principal: Principal, headers: Mapping[str, str]) -> Principal:
    """Return the caller as one of the tenant that it names. Only who may act for every tenant may name another one.

    Raises:
        InvalidRequest: the name is none.
        Forbidden: it is not the caller's own, whether there is such a tenant or not.
    """
    name = headers.get(TENANT_HEADER)
    if name is None or name == principal.tenant:
        return principal
    if not re.fullmatch(TENANT, name):
        raise InvalidRequest.at(TENANT_HEADER, "must be 1 to 64 letters, digits, dots, dashes or underscores")
    if not principal.cluster:
        raise Forbidden(f"this credential is of one tenant; leave out the header {TENANT_HEADER}")
    return replace(principal, tenant=name)


class KeyGate:
    """Implements ``Gate`` with API keys."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    @asynccontextmanager
    async def admitted(self, call: Call) -> AsyncIterator[Principal]:
        """See ``Gate.admitted``."""
        if call.action in OPEN:
            yield _ANYBODY
            return
        principal = of_tenant(self._known(call), call.headers)
        check_allowed(principal, call.action)
        yield principal

    def _known(self, call: Call) -> Principal:
        token = parsed(credential_of(call.headers))
        key = None if token is None else self._keys.owner(token)
        if key is None:
            raise Unauthenticated("the credential is not good: it is unknown, expired or revoked")
        return key.principal()
