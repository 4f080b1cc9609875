"""The one door that every call from outside passes, over REST, GraphQL and gRPC alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from quantum_db.access.principal import Principal

TENANT_HEADER: Final = "x-tenant"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that asks to be let in.

    Attributes:
        action: the name of the API's call: ``query``, ``insert``, ``jobs.submit``.
        headers: of the request, with names in lower case.
        peer: the address of the caller.
        request_id: as in the answer and the logs.
        about: returns what the call is about, for the audit log: an entity's id, a job's. Asked when the call has
            ended.
    """

    action: str
    headers: Mapping[str, str]
    peer: str
    request_id: str
    about: Callable[[], str] = str


class Gate(Protocol):
    """Lets calls in, or raises a ``QuantumDBError`` that says why not."""

    def admitted(self, call: Call) -> AbstractAsyncContextManager[Principal]:
        """Return a block in which the call is served, for the principal that the block is given."""
