"""The new circuits of one caller on their way: from the queue, through a job that may be shared, to those who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from quantum_db.backend_ports import AdaptiveAim
from quantum_db.circuits.adaptive import Selection
from quantum_db.errors import QuantumDBError
from quantum_db.jobs.budget import Charge
from quantum_db.jobs.coalescing import Wish
from quantum_db.jobs.queue import Ask, Priority
from quantum_db.model import Provenance

Counts = Mapping[int, int]


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a run gave: the counts of each circuit by its digest, and this run's share of the job's cost."""

    counts: Mapping[str, Counts]
    provenance: Provenance
    cost_usd: float
    job_ids: tuple[str, ...]
    selection: Selection | None = None


@dataclass(slots=True, eq=False)
class Run:
    """Circuits that are queued or in flight for one tenant. Others may wait for them too, if they want the same.

    Attributes:
        charge: what is reserved for it; None where nothing is accounted for.
        deadline_s: on the monotonic clock; of the caller that came first.
        alone: its job may not be shared.
        orphan: whoever wanted it first died with an earlier process; who wants it now is told its cost.
        flight_key: of its job, once it has started.
        queued_s: since when it waits, on the monotonic clock.
        waiters: how many wait for it.
        ended: the outcome, or the final error.
        told: an error for those who would rather do something else than wait on.
    """

    key: str
    backend: str
    wish: Wish
    shots: int
    tenant: str
    priority: Priority
    deadline_s: float
    charge: Charge | None = None
    adaptive: AdaptiveAim | None = None
    alone: bool = False
    orphan: bool = False
    flight_key: str | None = None
    queued_s: float = 0.0
    waiters: int = 0
    ended: asyncio.Future[Outcome] = field(default_factory=_future)
    told: asyncio.Future[QuantumDBError] = field(default_factory=_future)

    def ask(self) -> Ask:
        """Return what the queue has to know of it."""
        circuits = len(self.wish.digests)
        group = None if self.alone or self.adaptive is not None else self.shots
        shots = self.shots if self.adaptive is None else self.adaptive.max_shots / max(1, circuits)
        return Ask(self.key, self.tenant, self.priority, group, circuits, self.wish.gates, circuits * shots)

    async def outcome(self, *, patient: bool) -> Outcome:
        """Wait for the outcome; who is not patient gets what is told meanwhile, as an error."""
        if not patient:
            waits: set[asyncio.Future[Any]] = {self.ended, self.told}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not self.ended.done():
                raise self.told.result()
        return await asyncio.shield(self.ended)

    def tell(self, error: QuantumDBError) -> None:
        """Let those who are not patient go on with something else."""
        if not self.told.done():
            self.told.set_result(error)

    def all_well(self) -> None:
        """Take back what was told: the provider answers again."""
        if self.told.done():
            self.told = _future()

    def end(self, outcome: Outcome | QuantumDBError) -> None:
        """Give the outcome to all who wait, once."""
        if self.ended.done():
            return
        if isinstance(outcome, QuantumDBError):
            self.ended.set_exception(outcome)
            self.ended.exception()  # marks it as seen: maybe nobody waits any more
        else:
            self.ended.set_result(outcome)


class RunTable:
    """The runs that are queued or in flight, by their keys and by the circuits in them."""

    def __init__(self) -> None:
        self._by_key: dict[str, Run] = {}
        self._by_digest: dict[str, Run] = {}

    def __iter__(self) -> Iterator[Run]:
        return iter(self._by_key.values())

    def add(self, run: Run) -> None:
        """Hold a run; its circuits are found in it from now on."""
        self._by_key[run.key] = run
        for digest in run.wish.digests:
            self._by_digest[digest] = run

    def get(self, key: str) -> Run:
        """Return the run of a key. Raises KeyError."""
        return self._by_key[key]

    def of(self, digest: str) -> Run | None:
        """Return the run that a circuit is in."""
        return self._by_digest.get(digest)

    def forget(self, run: Run) -> None:
        """Let go of a run. Idempotent."""
        self._by_key.pop(run.key, None)
        for digest in run.wish.digests:
            if self._by_digest.get(digest) is run:
                del self._by_digest[digest]
