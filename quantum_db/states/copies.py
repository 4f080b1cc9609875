"""A table of states as it was at one moment: copied in milliseconds, made into records while the table goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.states.columns import StateColumns
from quantum_db.states.events import Ids
from quantum_db.states.packing import RUN, packed_run
from quantum_db.states.records import record_of

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class TableCopy:
    """N hot states and the last numbers of archived ones.

    Attributes:
        numbers: records of ``LastNumbers``; may be read once.
        touched: (N,) the order in which the states were touched.
    """

    numbers: Iterator[Json]
    ids: Ids
    touched: NDArray[np.int64]
    states: StateColumns

    def records(self) -> Iterator[Json]:
        """Yield a record for each state, least recently touched first, after those of the numbers."""
        yield from self.numbers
        for at in np.argsort(self.touched).tolist():
            yield record_of(self.states.state(at, self.ids[at]))

    def runs(self) -> Iterator[Json]:
        """Yield the same with the states in runs of columns."""
        yield from self.numbers
        order = np.argsort(self.touched)
        for start in range(0, len(order), RUN):
            at = order[start : start + RUN]
            yield packed_run(self.ids[at], self.states.take(at))
