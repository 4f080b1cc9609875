"""Which work may start: a bounded, fair queue for each backend, with a limit of jobs in flight.

A state machine: events in, decisions out. What waits is an ``Ask``, the circuits of one caller. What starts is a job:
the asks at the head of the queue that may share one. A job counts as one place, as a provider runs it, however many
circuits it has.

Interactive asks go before batch asks. Within a class tenants share by weight: each has a virtual time that grows by
the cost of what it was served over its weight, and the one that lags furthest is served next (start-time fair
queueing, Goyal, Vin and Cheng, SIGCOMM 1996, with the tag taken when an ask is served, so that asks that are withdrawn
cost nothing). A tenant that comes late starts at the present virtual time: it has saved up nothing, and waits for no
backlog of the others.
"""

from __future__ import annotations

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from quantum_db.errors import Overloaded

Priority = Literal["interactive", "batch"]
RETRY_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """Circuits of one caller that wait for a place.

    Attributes:
        group: asks of one group may share a job; None shares with nobody.
        gates: of all its circuits.
        cost: what its tenant is charged in the order of service: circuits times shots.
    """

    key: str
    tenant: str
    priority: Priority
    group: Hashable | None
    circuits: int
    gates: int
    cost: float


@dataclass(frozen=True, slots=True)
class JobCaps:
    """What one job may hold."""

    circuits: int
    gates: int


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """The bounds of each backend's lane.

    Attributes:
        in_flight: jobs.
        waiting: asks of all tenants together.
        waiting_of_tenant: asks of one tenant, so that a flood of one does not fill the queue for all.
    """

    in_flight: int
    waiting: int
    waiting_of_tenant: int


class FairQueue:
    """Asks that wait and jobs in flight, by backend."""

    def __init__(self, limits: Mapping[str, QueueLimits], weight_of: Callable[[str], float]) -> None:
        """Make lanes.

        Args:
            limits: backend -> its bounds.
            weight_of: tenant -> its share relative to the others; positive.
        """
        self._lanes = {backend: _Lane(own, weight_of) for backend, own in limits.items()}
        self._backend_of: dict[str, str] = {}
        self._flights: dict[str, str] = {}

    def add(self, backend: str, ask: Ask) -> None:
        """Take an ask in.

        Raises:
            Overloaded: as many wait as may, of all or of this tenant; the ask was not taken.
            ValueError: the key is already waiting.
            KeyError: there is no such backend.
        """
        lane = self._lanes[backend]
        if ask.key in self._backend_of:
            raise ValueError(f"{ask.key} is waiting already")
        if lane.depth >= lane.limits.waiting:
            raise Overloaded(f"{lane.depth} pieces of quantum work wait for {backend}", retry_after_s=RETRY_AFTER_S)
        own = lane.waiting_of(ask.tenant)
        if own >= lane.limits.waiting_of_tenant:
            raise Overloaded(f"{own} pieces of your quantum work wait for {backend}", retry_after_s=RETRY_AFTER_S)
        self._backend_of[ask.key] = backend
        lane.classes[ask.priority].add(ask)

    def withdraw(self, key: str) -> bool:
        """Take a waiting ask out; return False if it does not wait (its job has started, or it is unknown)."""
        backend = self._backend_of.pop(key, None)
        if backend is None:
            return False
        return any(waiting.remove(key) is not None for waiting in self._lanes[backend].classes.values())

    def has_place(self, backend: str) -> bool:
        """Whether a job could start, if there is one."""
        lane = self._lanes[backend]
        return len(lane.in_flight) < lane.limits.in_flight

    def waits(self, key: str) -> bool:
        """Whether an ask of this key waits."""
        return key in self._backend_of

    def head(self, backend: str) -> Ask | None:
        """Return the ask whose turn it is, if any waits."""
        for waiting in self._lanes[backend].classes.values():
            ask = waiting.head()
            if ask is not None:
                return ask
        return None

    def start_alone(self, key: str, job_key: str) -> Ask:
        """Start a job of one ask, out of turn, and give it a place even above the limit. Raises KeyError."""
        backend = self._backend_of.pop(key)
        (ask,) = (found for waiting in self._lanes[backend].classes.values() if (found := waiting.remove(key)))
        self.take_place(backend, job_key)
        return ask

    def start(self, backend: str, job_key: str, caps: JobCaps) -> list[Ask]:
        """Start a job of the asks whose turn it is, and give it a place.

        The first ask is the one whose turn it is; others of its group follow in fair order as far as ``caps`` allow,
        at first those of its class. Nothing starts, and [] is returned, if nothing waits or there is no place.
        """
        lane = self._lanes[backend]
        if not self.has_place(backend):
            return []
        job: list[Ask] = []
        room = [caps.circuits, caps.gates]

        def fits(ask: Ask) -> bool:
            if job and (ask.group is None or ask.group != job[0].group):
                return False
            return not job or (ask.circuits <= room[0] and ask.gates <= room[1])

        for waiting in lane.classes.values():  # interactive first
            for ask in waiting.serve(fits):
                job.append(ask)
                room[0] -= ask.circuits
                room[1] -= ask.gates
                del self._backend_of[ask.key]
        if job:
            self.take_place(backend, job_key)
        return job

    def take_place(self, backend: str, job_key: str) -> None:
        """Count a job as in flight that is so already, even above the limit."""
        self._lanes[backend].in_flight.add(job_key)
        self._flights[job_key] = backend

    def finish(self, job_key: str) -> str | None:
        """Free the place of a job, however it ended; return its backend. An unknown key changes nothing."""
        backend = self._flights.pop(job_key, None)
        if backend is not None:
            self._lanes[backend].in_flight.discard(job_key)
        return backend

    def depths(self) -> dict[str, tuple[int, int]]:
        """Return backend -> (jobs in flight, asks waiting)."""
        return {backend: (len(lane.in_flight), lane.depth) for backend, lane in self._lanes.items()}

    def validate(self) -> None:
        """Raise AssertionError if an invariant is broken. For tests."""
        known: list[str] = []
        for backend, lane in self._lanes.items():
            assert lane.depth <= lane.limits.waiting, "more asks wait than may"
            for waiting in lane.classes.values():
                known += waiting.keys()
                waiting.validate()
            assert all(self._flights[key] == backend for key in lane.in_flight), "a job in flight is at two backends"
        assert sorted(known) == sorted(self._backend_of), "an ask was lost or stands twice"


class _Lane:
    """The asks and jobs of one backend."""

    def __init__(self, limits: QueueLimits, weight_of: Callable[[str], float]) -> None:
        self.limits = limits
        self.in_flight: set[str] = set()
        self.classes: dict[Priority, _Waiting] = {name: _Waiting(weight_of) for name in get_args(Priority)}

    @property
    def depth(self) -> int:
        return sum(waiting.depth for waiting in self.classes.values())

    def waiting_of(self, tenant: str) -> int:
        return sum(waiting.of_tenant(tenant) for waiting in self.classes.values())


@dataclass(slots=True)
class _Tenant:
    """The waiting asks of a tenant, first come first, and the virtual time up to which it has been served."""

    asks: OrderedDict[str, Ask] = field(default_factory=OrderedDict)
    served: float = 0.0
    entry: int = -1


class _Waiting:
    """The asks of one class, in fair order. A tenant stands in the heap once, by its latest ``entry``."""

    def __init__(self, weight_of: Callable[[str], float]) -> None:
        self._weight_of = weight_of
        self._tenants: dict[str, _Tenant] = {}
        self._tenant_of: dict[str, str] = {}
        self._heap: list[tuple[float, int, str]] = []
        self._entries = itertools.count()
        self._now = 0.0
        self._latest = 0.0

    @property
    def depth(self) -> int:
        return len(self._tenant_of)

    def keys(self) -> list[str]:
        return list(self._tenant_of)

    def of_tenant(self, tenant: str) -> int:
        found = self._tenants.get(tenant)
        return 0 if found is None else len(found.asks)

    def add(self, ask: Ask) -> None:
        tenant = self._tenants.get(ask.tenant)
        if tenant is None:
            tenant = self._tenants[ask.tenant] = _Tenant(served=self._now)
        self._tenant_of[ask.key] = ask.tenant
        tenant.asks[ask.key] = ask
        if len(tenant.asks) == 1:
            tenant.served = max(tenant.served, self._now)
            self._push(ask.tenant, tenant)

    def remove(self, key: str) -> Ask | None:
        name = self._tenant_of.pop(key, None)
        if name is None:
            return None
        ask = self._tenants[name].asks.pop(key)
        self._forget(name)
        return ask

    def head(self) -> Ask | None:
        while self._heap:
            _, number, name = self._heap[0]
            tenant = self._tenants.get(name)
            if tenant is not None and tenant.entry == number:
                return next(iter(tenant.asks.values()))
            heapq.heappop(self._heap)  # it left the queue, and may have come back by another entry
        return None

    def serve(self, fits: Callable[[Ask], bool]) -> Iterator[Ask]:
        """Yield and take out the asks that fit, in fair order; a tenant whose next ask does not fit is passed over."""
        passed: list[tuple[float, int, str]] = []
        while (ask := self.head()) is not None:
            entry = heapq.heappop(self._heap)
            name = ask.tenant
            tenant = self._tenants[name]
            if not fits(ask):
                passed.append(entry)
                continue
            self._now = max(self._now, tenant.served)
            tenant.served += ask.cost / self._weight_of(name)
            self._latest = max(self._latest, tenant.served)
            del tenant.asks[ask.key]
            del self._tenant_of[ask.key]
            if tenant.asks:
                self._push(name, tenant)
            else:
                self._forget(name)
            yield ask
        for entry in passed:
            heapq.heappush(self._heap, entry)

    def validate(self) -> None:
        assert sum(len(tenant.asks) for tenant in self._tenants.values()) == len(self._tenant_of)
        live = {(number, name) for _, number, name in self._heap}
        for name, tenant in self._tenants.items():
            assert not tenant.asks or (tenant.entry, name) in live, "a tenant with asks is not in the heap"

    def _push(self, name: str, tenant: _Tenant) -> None:
        tenant.entry = next(self._entries)
        heapq.heappush(self._heap, (tenant.served, tenant.entry, name))

    def _forget(self, name: str) -> None:
        """Drop what is known of a tenant without asks, unless it has been served ahead of others that wait."""
        tenant = self._tenants[name]
        if tenant.asks:
            return
        tenant.entry = -1
        if not self._tenant_of:  # nobody waits: who was served ahead of whom does not matter any more
            self._now = self._latest
            self._tenants.clear()
        elif tenant.served <= self._now:
            del self._tenants[name]
        elif len(self._tenants) > 2 * len(self._heap) + 64:
            self._tenants = {n: t for n, t in self._tenants.items() if t.asks or t.served > self._now}
