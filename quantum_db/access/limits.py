"""How much a caller may ask: requests, cost units and calls at once, for each key and for each tenant.

Requests and cost units are counted over sliding windows, in memory or in Redis. In memory each replica counts by itself
and grants its share of what is granted in all, rounded down, so that all together never grant more; in Redis all count
together. Where the number of replicas changes, the share is that of the most there may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import ConcurrentUpdateError, StorageError

from quantum_db.access.principal import Principal
from quantum_db.access.sizes import UNLIMITED, SizeLimits
from quantum_db.errors import InvalidSettings, TooManyRequests, Unavailable
from quantum_db.ports import Clock

BUSY_S: Final = 1.0
"""After which a caller with too many calls at once may try again."""


REDIS_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What is granted to one key, or to one tenant; None is no limit.

    Attributes:
        concurrent: calls that are being served at once.
        cost_units_per_minute: of which each action takes its ``Rule.cost``.
    """

    requests_per_s: int | None = None
    requests_per_minute: int | None = None
    cost_units_per_minute: int | None = None
    concurrent: int | None = None
    sizes: SizeLimits = UNLIMITED


@dataclass(frozen=True, slots=True)
class LimitTable:
    """What is granted to whom: to each key, to the tenants that are named, and to each other tenant."""

    per_key: CallLimits = CallLimits()
    default_tenant: CallLimits = CallLimits()
    tenants: Mapping[str, CallLimits] = field(default_factory=dict)

    def of_tenant(self, tenant: str) -> CallLimits:
        """Return what is granted to a tenant."""
        return self.tenants.get(tenant, self.default_tenant)

    def sizes(self, principal: Principal) -> SizeLimits:
        """Return how large a caller's requests may be."""
        return self.per_key.sizes.and_also(self.of_tenant(principal.tenant).sizes)


@dataclass(frozen=True, slots=True)
class _Window:
    """What is counted, by what, and how it is told."""

    item: RateLimitItem
    by_cost: bool
    told: str


def _redis(url: str) -> RedisStorage:
    bounds: dict[str, Any] = {"socket_timeout": REDIS_TIMEOUT_S, "socket_connect_timeout": REDIS_TIMEOUT_S}
    return RedisStorage(f"async+{url}", wrap_exceptions=True, implementation="redispy", **bounds)


class Limiter:
    """Counts calls. For one event loop."""

    def __init__(self, table: LimitTable, clock: Clock, *, replicas: int = 1, redis_url: str | None = None) -> None:
        """Begin with nothing counted.

        Args:
            table: what is granted to whom.
            clock: that of the counters' windows, which are those of the system's time.
            replicas: how many share what is granted at most, where there is no ``redis_url``.
            redis_url: where all replicas count together.

        Raises:
            InvalidSettings: the URL is none of Redis.
        """
        if redis_url is not None and not redis_url.startswith(("redis://", "rediss://")):
            raise InvalidSettings("limits.redis_url begins with redis:// or rediss://")
        self._table = table
        self._clock = clock
        self._share = replicas if redis_url is None else 1
        self._replicas = replicas
        storage = MemoryStorage() if redis_url is None else _redis(redis_url)
        self._windows = SlidingWindowCounterRateLimiter(storage)
        self._known: dict[CallLimits, tuple[_Window, ...]] = {}
        self._running: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self, principal: Principal, cost: int) -> AsyncIterator[SizeLimits]:
        """Count a call, and hold its place for as long as it is served; give how large it may be.

        Raises:
            TooManyRequests: it is above what is granted to the key or to the tenant.
            Unavailable: the counters do not answer.
        """
        tenant = self._table.of_tenant(principal.tenant)
        holders = (
            (f"{principal.tenant} {principal.subject}", "key", self._table.per_key),
            (principal.tenant, "tenant", tenant),
        )
        for name, what, limits in holders:
            bound = None if limits.concurrent is None else max(1, limits.concurrent // self._replicas)
            if bound is not None and self._running[name] >= bound:
                raise TooManyRequests(f"the {what} has {limits.concurrent} calls at once already", retry_after_s=BUSY_S)
        for name, what, limits in holders:
            await self._count(name, what, self._windows_of(limits), cost)
        names = [name for name, _, limits in holders if limits.concurrent is not None]
        self._running.update(names)
        try:
            yield self._table.sizes(principal)
        finally:
            for name in names:
                self._running[name] -= 1
                if not self._running[name]:
                    del self._running[name]

    async def count_stranger(self, address: str) -> None:
        """Count a call that shows no good credential: an address has what is granted to one key.

        Raises what ``admitted`` raises.
        """
        await self._count(address, "address", self._windows_of(self._table.per_key), 1)

    async def _count(self, name: str, what: str, windows: Sequence[_Window], cost: int) -> None:
        for window in windows:
            try:
                if await self._windows.hit(window.item, what, name, cost=cost if window.by_cost else 1):
                    continue
                stats = await self._windows.get_window_stats(window.item, what, name)
            except (StorageError, ConcurrentUpdateError, OSError) as error:
                raise Unavailable("requests cannot be counted, for the counters do not answer") from error
            pause_s = max(0.05, stats.reset_time - self._clock.now_s())
            raise TooManyRequests(f"the {what} has used up its {window.told}", retry_after_s=pause_s)

    def _windows_of(self, limits: CallLimits) -> tuple[_Window, ...]:
        windows = self._known.get(limits)
        if windows is None:
            windows = self._known[limits] = tuple(self._made(limits))
        return windows

    def _made(self, limits: CallLimits) -> list[_Window]:
        def share(amount: int) -> int:
            return max(1, amount // self._share)

        found = []
        if (amount := limits.requests_per_s) is not None:
            item: RateLimitItem = RateLimitItemPerSecond(share(amount))
            found.append(_Window(item, False, f"{amount} requests a second"))
        if (amount := limits.requests_per_minute) is not None:
            item = RateLimitItemPerMinute(share(amount))
            found.append(_Window(item, False, f"{amount} requests a minute"))
        if (amount := limits.cost_units_per_minute) is not None:
            item = RateLimitItemPerMinute(share(amount), namespace="COST")
            found.append(_Window(item, True, f"{amount} cost units a minute"))
        return found
