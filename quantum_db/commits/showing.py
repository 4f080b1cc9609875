"""Shows commits to readers in other processes, and waits for them; and a reader's way to look. For one event loop."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from quantum_db.commits.visibility import KEEP_S, LEASE_S, LOOK_S, ReaderLease, Told, Visibility
from quantum_db.errors import Unavailable
from quantum_db.ports import Clock

logger = logging.getLogger(__name__)

HOLD_S: Final = LEASE_S / 4
"""How long a question is held while there is nothing to tell; what is left of the lease has to do for the next one."""
ANSWER_S: Final = LEASE_S
"""How long a reader waits for the answer to a question, besides."""
RENEWAL_S: Final = 5.0
PAUSE_S: Final = 0.2

Ask = Callable[[str, int | None, float], Awaitable[Told]]
"""Asks the coordinator: who asks, at which commit it looks, and for how long (seconds) the question may be held."""


class ShownCommits:
    """The coordinator's side."""

    def __init__(self, clock: Clock, *, lease_s: float = LEASE_S, keep_s: float = KEEP_S) -> None:
        """Start with nothing visible."""
        self._clock = clock
        self._visibility = Visibility(clock.monotonic_s(), lease_s=lease_s, keep_s=keep_s)
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap: commit, count, waiter
        self._count = itertools.count()
        self._raised = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def raise_to(self, commit: int) -> None:
        """Make everything up to a commit visible."""
        if self._visibility.raise_to(commit, self._clock.monotonic_s()):
            self._raised = _struck(self._raised)
            self._settle()

    async def show(self, commit: int) -> None:
        """Return when every look from now on is at this commit or a later one. It has to become visible in the end."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (commit, next(self._count), waiter))
        self._settle()
        await waiter

    async def follow(self, reader: str, commit: int | None, hold_s: float) -> Told:
        """Answer a reader that looks at ``commit``, or at nothing: at once if there is news, or after ``hold_s``."""
        if self._visibility.acknowledge(reader, commit):
            self._settle()
        if commit == self._visibility.commit:
            await _struck_within(self._raised, hold_s)
        return self._visibility.tell(reader, self._clock.monotonic_s())

    def droppable(self) -> int:
        """See ``Visibility.droppable``."""
        return self._visibility.droppable(self._clock.monotonic_s())

    def _settle(self) -> None:
        """Let go of those whose commits are shown, and look again when the next lease runs out."""
        now_s = self._clock.monotonic_s()
        shown = self._visibility.shown(now_s)
        while self._waiting and (self._waiting[0][0] <= shown or self._waiting[0][2].done()):
            waiter = heapq.heappop(self._waiting)[2]
            if not waiter.done():  # its caller has gone
                waiter.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        end_s = self._visibility.next_end_s(now_s)
        if self._waiting and end_s is not None:
            self._timer = asyncio.get_running_loop().call_later(end_s - now_s, self._settle)


class FollowedSnapshots:
    """A reader's side. Implements ``Snapshots``."""

    def __init__(self, reader: str, ask: Ask, clock: Clock, *, renewal_s: float = RENEWAL_S) -> None:
        """Start without a lease.

        Args:
            reader: a name that nobody else has, or ever had.
            renewal_s: how long a look waits for a lease.
        """
        self._reader = reader
        self._ask = ask
        self._clock = clock
        self._renewal_s = renewal_s
        self._lease = ReaderLease()
        self._renewed = asyncio.Event()
        self._following: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask, and go on for as long as the event loop runs. Idempotent."""
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Ask no more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def at(self) -> int | None:
        """Return the commit to look at now, None without a lease."""
        return self._lease.at(self._clock.monotonic_s())

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[int]:
        """See ``Snapshots.taken``."""
        commit = await self._current()
        begun_s = self._clock.monotonic_s()
        yield commit
        if self._clock.monotonic_s() - begun_s > LOOK_S:
            raise Unavailable(f"a look at the store took more than {LOOK_S:g} s", retry_after_s=1.0)

    async def _follow(self) -> None:
        while True:
            asked_at_s = self._clock.monotonic_s()
            hold_s = HOLD_S if self._lease.at(asked_at_s) is not None else 0.0
            try:
                async with asyncio.timeout(hold_s + ANSWER_S):
                    told = await self._ask(self._reader, self._lease.commit, hold_s)
            except (Unavailable, TimeoutError):
                await asyncio.sleep(PAUSE_S)
                continue
            except Exception:
                logger.exception("the coordinator cannot be asked what is visible; it is asked again")
                await asyncio.sleep(LEASE_S)
                continue
            self._lease.take(told, asked_at_s)
            self._renewed = _struck(self._renewed)

    async def _current(self) -> int:
        commit = self._lease.at(self._clock.monotonic_s())
        if commit is not None:
            return commit
        try:
            async with asyncio.timeout(self._renewal_s):
                while (commit := self._lease.at(self._clock.monotonic_s())) is None:
                    await self._renewed.wait()
                return commit
        except TimeoutError:
            raise Unavailable("the coordinator does not tell what is visible", retry_after_s=1.0) from None


def _struck(event: asyncio.Event) -> asyncio.Event:
    """Wake all who wait for an event; return the one to wait for next."""
    event.set()
    return asyncio.Event()


async def _struck_within(event: asyncio.Event, timeout_s: float | None) -> None:
    """Wait for an event, at most so long; None has no bound."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
