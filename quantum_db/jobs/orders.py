"""What the pool is asked to keep and run. How requests become it: ``bodies``, which takes qiskit, as this does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantum_db.circuits.template import CircuitBatch
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.jobs.queue import Priority


@dataclass(frozen=True, slots=True, eq=False)
class JobOrder:
    """A job that is known to fit its backend.

    Attributes:
        reading: how the counts are to be read, as JSON; see ``quantum_db.jobs.prepared``.
        shots: of each circuit.
        deadline_s: from when it is taken.
        key: the caller's name for it: the same again is the job that was taken before.
        digest: of the request, to tell another one under the same key.
    """

    backend: str
    parts: tuple[CircuitBatch, ...]
    reading: Mapping[str, Any]
    shots: int
    priority: Priority
    deadline_s: float
    limit: SpendingLimit
    name: str | None
    key: str | None = None
    digest: str = ""

    @property
    def circuits(self) -> int:
        """Number of circuits."""
        return sum(map(len, self.parts))
