"""A vector database whose last ranking stage runs as quantum circuits. Pure Python: nothing here imports Ray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantum_db.client.config import Config
    from quantum_db.client.database import QuantumDB

__all__ = ["Config", "QuantumDB"]


def __getattr__(name: str) -> Any:
    """Import the client when it is asked for: the cluster's own processes have no use for it."""
    if name == "QuantumDB":
        from quantum_db.client.database import QuantumDB  # noqa: PLC0415

        return QuantumDB
    if name == "Config":
        from quantum_db.client.config import Config  # noqa: PLC0415

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
