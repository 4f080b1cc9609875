"""The modes of a query: rows of one table of knobs. What each costs and yields is measured in docs/queries.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mode:
    """Knobs of a query.

    Attributes:
        candidates: entities that the store hands to the ranking stage (at least top_k).
        shots: of each overlap circuit; 0 means that no circuit runs. A query's ``epsilon`` makes them adaptive.
    """

    name: str
    candidates: int
    shots: int


MODES = {
    mode.name: mode
    for mode in (
        Mode("classical", candidates=30, shots=0),
        Mode("balanced", candidates=30, shots=4_096),
        Mode("precise", candidates=62, shots=65_536),
        Mode("exploratory", candidates=126, shots=1_024),
    )
}
DEFAULT_MODE = "balanced"
