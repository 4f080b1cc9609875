"""The SQL synthesizer: words or SQL in, one checked and optimised read-only statement and its rows out.

Pure Python, like ``quantum_db``: nothing here imports Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sql_synthesizer.agent import QueryAgent

__all__ = ["QueryAgent"]


def __getattr__(name: str) -> Any:
    """Import the agent, and with it the drivers of all engines, when it is asked for."""
    if name == "QueryAgent":
        from sql_synthesizer.agent import QueryAgent  # noqa: PLC0415

        return QueryAgent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
