"""The gate of what is served: who is it, and may they? Decided in the replica, without a call to anybody."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter

from quantum_db.access.audit import AuditEvent
from quantum_db.access.bodies import TENANT
from quantum_db.access.keys import Key, Token, parsed
from quantum_db.access.limits import Limiter
from quantum_db.access.policy import OPEN, RULES, check_allowed
from quantum_db.access.principal import Principal, Role
from quantum_db.access.reports import Reports
from quantum_db.access.tokens import TokenVerifier
from quantum_db.errors import Forbidden, InvalidRequest, QuantumDBError, TooManyRequests, Unauthenticated
from quantum_db.ports import Clock
from quantum_db.scope import DEFAULT_TENANT
from serve_app.gate import TENANT_HEADER, Call

KEY_HEADER: Final = "api-key"
GRAPHQL: Final = "graphql"
"""Open as a call, for its fields are not; but it is parsed before they are asked."""
_BEARER: Final = re.compile(r"Bearer +(\S+)", re.IGNORECASE)
_ANYBODY: Final = Principal("anybody", DEFAULT_TENANT, Role.READER)


class Keys(Protocol):
    """Knows keys."""

    def owner(self, token: Token) -> Key | None:
        """Return the key with this id and secret, None if there is none that is good. Raises Unavailable."""

    def was_good(self, token: Token) -> bool:
        """See ``KeyTable.was_good``."""


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


@dataclass(frozen=True, slots=True)
class GateParts:
    """What the gate goes by.

    Attributes:
        tokens: None where no identity provider is trusted.
        audited_reads: the share of successful reads that are written into the audit log, 0 to 1.
    """

    keys: Keys
    tokens: TokenVerifier | None
    limiter: Limiter
    reports: Reports
    clock: Clock
    rng: random.Random
    audited_reads: float = 0.0


class KeyGate:
    """Implements ``Gate`` with API keys and tokens."""

    def __init__(self, parts: GateParts, registry: CollectorRegistry) -> None:
        """Join the parts. ``registry`` is that of this process's metrics."""
        self._parts = parts
        self._refused = Counter("access_refused", "Calls that were not let in", ["status"], registry=registry)

    @asynccontextmanager
    async def admitted(self, call: Call) -> AsyncIterator[Principal]:
        """See ``Gate.admitted``."""
        if call.action in OPEN:
            if call.action == GRAPHQL and self._is_stranger(call):
                await self._parts.limiter.count_stranger(call.peer)
            yield _ANYBODY
            return
        principal: Principal | None = None
        inside = False
        try:
            principal = of_tenant(self._known(call), call.headers)
            rule = check_allowed(principal, call.action)
            if rule.writes:
                self._parts.reports.check_room()
            async with self._parts.limiter.admitted(principal, rule.cost) as sizes:
                inside = True
                yield replace(principal, sizes=sizes)
        except QuantumDBError as error:
            self._ended(call, principal, error.status, inside)
            raise
        except BaseException:  # also of a caller who has left: what he asked for may have been done
            self._ended(call, principal, QuantumDBError.status, inside)
            raise
        self._ended(call, principal, 200, inside)

    def _known(self, call: Call) -> Principal:
        shown = credential_of(call.headers)
        found = self._owner_of(shown)
        if found is not None:
            return found
        token = parsed(shown)
        bad = Unauthenticated("the credential is not good: it is unknown, expired or revoked")
        if token is not None and self._parts.keys.was_good(token):
            raise bad  # an owner who has not heard of it yet, and no attempt at guessing
        reports = self._parts.reports
        blocked_s = reports.blocked_for_s(call.peer)
        if blocked_s:  # not counted, or what was on its way would begin another block after this one is lifted
            raise TooManyRequests("too many bad credentials came from this address", retry_after_s=blocked_s)
        reports.failed(call.peer)
        raise bad

    def _owner_of(self, shown: str) -> Principal | None:
        """Return whose credential this is, None if it is not good. Raises Unavailable."""
        if (token := parsed(shown)) is not None:
            key = self._parts.keys.owner(token)
            return None if key is None else key.principal()
        return None if self._parts.tokens is None else self._parts.tokens.principal(shown)

    def _is_stranger(self, call: Call) -> bool:
        try:
            return self._owner_of(credential_of(call.headers)) is None
        except Unauthenticated:
            return True

    def _ended(self, call: Call, principal: Principal | None, status: int, inside: bool) -> None:
        if not inside:
            self._refused.labels(status).inc()
        if principal is None and status == TooManyRequests.status:
            return  # the block is in the log, and its address fills it no further
        rule = RULES.get(call.action)
        always = not inside or rule is None or rule.writes
        if not always and self._parts.rng.random() >= self._parts.audited_reads:
            return
        outcome = "denied" if not inside else "ok" if status < 400 else "failed"
        who, tenant = ("", "") if principal is None else (principal.subject, principal.tenant)
        now_s = self._parts.clock.now_s()
        about = call.about() if inside else ""
        self._parts.reports.note(
            AuditEvent(now_s, who, tenant, call.action, about, outcome, status, call.request_id, call.peer)
        )
