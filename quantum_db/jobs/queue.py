"""Which quantum job may start: a bounded queue for each backend with a limit of jobs in flight.

A state machine: events in, decisions out. A job with many circuits counts as one, since a provider runs it as one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from quantum_db.errors import Overloaded

Priority = Literal["interactive", "batch"]
RETRY_AFTER_S = 1.0


@dataclass(slots=True)
class _Lane:
    """The jobs of one backend."""

    limit: int
    in_flight: set[str] = field(default_factory=set)
    waiting: dict[Priority, deque[str]] = field(default_factory=lambda: {"interactive": deque(), "batch": deque()})

    @property
    def depth(self) -> int:
        return sum(len(queue) for queue in self.waiting.values())


class JobQueue:
    """Jobs that wait and jobs in flight. ``submit``, ``finish`` and ``withdraw`` return the keys that start now."""

    def __init__(self, limits: Mapping[str, int], max_waiting: int) -> None:
        """Make lanes.

        Args:
            limits: backend -> how many of its jobs may be in flight.
            max_waiting: how many jobs may wait for one backend.
        """
        self._lanes = {backend: _Lane(limit) for backend, limit in limits.items()}
        self._max_waiting = max_waiting
        self._backend_of: dict[str, str] = {}

    def submit(self, key: str, backend: str, priority: Priority = "interactive") -> list[str]:
        """Take a job in.

        Raises:
            Overloaded: ``max_waiting`` jobs wait for this backend; the job was not taken.
            ValueError: the key is already known.
            KeyError: there is no such backend.
        """
        lane = self._lanes[backend]
        if key in self._backend_of:
            raise ValueError(f"job {key} was submitted twice")
        if len(lane.in_flight) >= lane.limit and lane.depth >= self._max_waiting:
            raise Overloaded(f"{lane.depth} quantum jobs wait for {backend}", retry_after_s=RETRY_AFTER_S)
        self._backend_of[key] = backend
        lane.waiting[priority].append(key)
        return self._start(lane)

    def finish(self, key: str) -> list[str]:
        """Note that a job in flight has ended, however it ended. An unknown key changes nothing."""
        backend = self._backend_of.pop(key, None)
        if backend is None:
            return []
        lane = self._lanes[backend]
        lane.in_flight.discard(key)
        return self._start(lane)

    def withdraw(self, key: str) -> bool:
        """Take a waiting job out; return False if it does not wait (it is in flight, ended or unknown)."""
        backend = self._backend_of.get(key)
        if backend is None or key in self._lanes[backend].in_flight:
            return False
        for queue in self._lanes[backend].waiting.values():
            if key in queue:
                queue.remove(key)
        del self._backend_of[key]
        return True

    def depths(self) -> dict[str, tuple[int, int]]:
        """Return backend -> (jobs in flight, jobs waiting)."""
        return {backend: (len(lane.in_flight), lane.depth) for backend, lane in self._lanes.items()}

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        known: list[str] = []
        for lane in self._lanes.values():
            assert len(lane.in_flight) <= lane.limit, "more jobs in flight than the limit"
            assert lane.depth <= self._max_waiting, "more jobs wait than may"
            assert not lane.depth or len(lane.in_flight) == lane.limit, "a job waits although one could start"
            known += [*lane.in_flight, *(key for queue in lane.waiting.values() for key in queue)]
        assert sorted(known) == sorted(self._backend_of), "a job was lost or stands twice"

    def _start(self, lane: _Lane) -> list[str]:
        started = []
        for queue in lane.waiting.values():  # interactive first
            while queue and len(lane.in_flight) < lane.limit:
                key = queue.popleft()
                lane.in_flight.add(key)
                started.append(key)
        return started
