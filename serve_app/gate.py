"""The one door that every call from outside passes, over REST, GraphQL and gRPC alike."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from quantum_db.access.principal import Principal, Role
from quantum_db.errors import InvalidRequest
from quantum_db.scope import DEFAULT_TENANT

TENANT_HEADER: Final = "x-tenant"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that asks to be let in.

    Attributes:
        action: the name of the API's call: ``query``, ``insert``, ``jobs.submit``.
        headers: of the request, with names in lower case; for gRPC its metadata.
        peer: the address of the caller.
        request_id: as in the answer and the logs.
    """

    action: str
    headers: Mapping[str, str]
    peer: str
    request_id: str


class Gate(Protocol):
    """Lets calls in, or raises a ``QuantumDBError`` that says why not."""

    def admitted(self, call: Call) -> AbstractAsyncContextManager[Principal]:
        """Return a block in which the call is served, for the principal that the block is given."""


class OpenGate:
    """Lets everybody in, as an administrator of the tenant that the header ``x-tenant`` names."""

    @asynccontextmanager
    async def admitted(self, call: Call) -> AsyncIterator[Principal]:
        """See ``Gate.admitted``."""
        name = call.headers.get(TENANT_HEADER, DEFAULT_TENANT)
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name):
            raise InvalidRequest.at(TENANT_HEADER, "must be 1 to 64 letters, digits, dots, dashes or underscores")
        yield Principal("anybody", name, Role.ADMIN)
