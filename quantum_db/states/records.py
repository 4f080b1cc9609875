"""States as JSON records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quantum_db.errors import CorruptData
from quantum_db.lifecycle import Phase, State


def record_of(state: State) -> dict[str, Any]:
    """Return a state as a JSON record."""
    return {
        "entity_id": state.entity_id,
        "generation": state.generation,
        "phase": state.phase.value,
        "since_s": state.since_s,
        "coherence_time_ms": state.coherence_time_ms,
        "expires_at_s": state.expires_at_s,
        "measurements": state.measurements,
        "commit": state.commit,
    }


def state_of(record: Mapping[str, Any]) -> State:
    """Return the state that ``record_of`` made a record of. Raises CorruptData."""
    try:
        expires_at_s = record["expires_at_s"]
        state = State(
            entity_id=record["entity_id"],
            generation=int(record["generation"]),
            phase=Phase(record["phase"]),
            since_s=float(record["since_s"]),
            coherence_time_ms=float(record["coherence_time_ms"]),
            expires_at_s=None if expires_at_s is None else float(expires_at_s),
            measurements=int(record["measurements"]),
            commit=int(record.get("commit", 0)),  # version 0.1.0 wrote none
        )
        if (
            not isinstance(state.entity_id, str)
            or not 1 <= state.generation < 2**32
            or not math.isfinite(state.since_s)
        ):
            raise ValueError("a field is out of its range")
        if expires_at_s is None and state.phase not in (Phase.CREATED, Phase.ARCHIVED):
            raise ValueError("a prepared state has no time when it expires")
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"a state record cannot be read: {error!r}") from error
    return state
