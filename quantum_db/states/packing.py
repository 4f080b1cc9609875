"""Records of states in runs: one JSON record with columns instead of one object for each state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, islice
from typing import Any, Final

import numpy as np

from quantum_db.errors import CorruptData
from quantum_db.states.batches import packed, unpacked
from quantum_db.states.columns import PHASES, StateColumns
from quantum_db.states.events import Ids
from quantum_db.states.records import state_of

RUN: Final = 4_096
"""States in one record."""

Json = dict[str, Any]
_COLUMNS: Final[Mapping[str, type[np.generic]]] = {
    "generation": np.uint32,
    "since_s": np.float64,
    "coherence_time_ms": np.float32,
    "measurements": np.uint32,
    "commit": np.int64,
}


def is_of_a_state(record: Mapping[str, Any]) -> bool:
    """Return whether this is the record of one state (``states.records.record_of``)."""
    return "phase" in record


def pack(records: Iterable[Json]) -> Iterator[Json]:
    """Yield the records with those of states in runs of columns; others as they are, all in their order."""
    for of_states, run in groupby(records, is_of_a_state):
        if not of_states:
            yield from run
            continue
        while states := list(islice(run, RUN)):
            found = [state_of(record) for record in states]
            yield packed_run(np.array([one.entity_id for one in found], dtype=np.object_), StateColumns.of(found))


def unpack(record: Mapping[str, Any]) -> list[Json]:
    """Return the records of a run of states. Raises CorruptData."""
    try:
        ids = record["states"]
        codes = unpacked(record["phase"], np.uint8, len(ids))
        expires_at_s = unpacked(record["expires_at_s"], np.float64, len(ids)).tolist()
        columns = {
            name: unpacked(record[name], kind, len(ids)).tolist() for name, kind in _COLUMNS.items() if name in record
        }
        columns.setdefault("commit", [0] * len(ids))  # version 0.1.0 wrote none
        return [
            {
                "entity_id": entity_id,
                "phase": PHASES[codes[at]].value,
                "expires_at_s": None if math.isinf(expires_at_s[at]) else expires_at_s[at],
                **{name: column[at] for name, column in columns.items()},
            }
            for at, entity_id in enumerate(ids)
        ]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise CorruptData(f"a record of states cannot be read: {error!r}") from error


def packed_run(ids: Ids, states: StateColumns) -> Json:
    """Return the record of a run of states."""
    return {
        "states": ids.tolist(),
        "phase": packed(states.phase),
        "generation": packed(states.generation),
        "since_s": packed(states.since_s),
        "coherence_time_ms": packed(states.coherence_ms),
        "expires_at_s": packed(states.expires_at_s),
        "measurements": packed(states.measurements),
        "commit": packed(states.commit),
    }
