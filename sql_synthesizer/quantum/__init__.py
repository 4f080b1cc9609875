"""The parts of the synthesizer that have a quantum word in their name; `docs/sql-quantum.md` defines each word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sql_synthesizer.quantum.synthesizer import QuantumSQLSynthesizer

__all__ = ["QuantumSQLSynthesizer"]


def __getattr__(name: str) -> Any:
    """Import the synthesizer when it is asked for: the settings need this package, and not what compiles."""
    if name == "QuantumSQLSynthesizer":
        from sql_synthesizer.quantum.synthesizer import QuantumSQLSynthesizer

        return QuantumSQLSynthesizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
