"""What a way to a cluster is given and what it does, as a protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from quantum_db.client.routes import Route
from quantum_db.errors import Unavailable

Json = dict[str, Any]


class Unreached(Unavailable):
    """No connection could be made, so nothing was sent."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the API.

    Attributes:
        method: its name in ``ROUTES``.
        arguments: as its route names them; may hold NumPy arrays.
        collection: that it is about.
        key: names this call, so that the cluster does it once; None for a call that only reads.
        timeout_s: how long this attempt may take.
    """

    method: str
    route: Route
    arguments: tuple[Any, ...]
    collection: str
    key: str | None
    timeout_s: float


class Transport(Protocol):
    """A way to a cluster. All its methods are called on one event loop. They raise ``QuantumDBError``s."""

    async def open(self) -> None:
        """Make sure that the cluster answers. Idempotent. Raises Unavailable."""

    async def call(self, request: Request) -> Any:
        """Make a call and return its answer. Raises ``Unreached`` where nothing was sent."""

    async def close(self) -> None:
        """Give everything back. Idempotent; ``open`` works again afterwards."""
