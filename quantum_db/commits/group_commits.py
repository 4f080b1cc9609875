"""The registry's side of transactions: what they reserve and create, and callers who wait for a group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from quantum_db.commits.pending_groups import (
    PendingGroups,
    finished_record,
    first_record,
    forgotten_record,
    prepared_record,
)
from quantum_db.errors import Unavailable
from quantum_db.model import EntanglementGroup

WAIT_S: Final = 2.0
"""How long a caller waits for a group that a transaction is about to create."""

Make = Callable[[Sequence[EntanglementGroup], dict[str, Any]], Awaitable[None]]


class GroupCommits:
    """Implements ``CommitGroups`` beside a table of groups: one step after the other."""

    def __init__(
        self,
        pending: PendingGroups,
        check: Callable[[EntanglementGroup], EntanglementGroup],
        make: Make,
        wait_s: float = WAIT_S,
    ) -> None:
        """Join the parts.

        Args:
            pending: what is reserved.
            check: returns a group with the version that ``make`` would give it, or raises Conflict.
            make: writes groups into the table, and a record into ``pending``, as one; durable when it returns. A group
                that is there already stays as it is.
        """
        self._pending = pending
        self._check = check
        self._make = make
        self._wait_s = wait_s
        self._step = asyncio.Lock()
        self._unclear: set[int] = set()  # a write failed: a reservation may be in the journal all the same
        self._changed = asyncio.Event()

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        """See ``CommitGroups.prepare``."""
        async with self._step:
            known = self._pending.prepared(commit)
            if known is not None:
                return known
            if self._pending.is_over(commit):
                raise Unavailable(f"commit {commit} has ended; this message came late")
            self._pending.check_free(groups)
            checked = tuple(self._check(group) for group in groups)
            self._unclear.add(commit)
            await self._write((), prepared_record(commit, checked))
            self._unclear.discard(commit)
            return checked

    async def finish(self, commit: int) -> None:
        """See ``CommitGroups.finish``."""
        async with self._step:
            if not self._pending.is_finished(commit):
                await self._write(self._pending.prepared(commit) or (), finished_record(commit))

    async def forget(self, commit: int) -> None:
        """See ``CommitGroups.forget``."""
        async with self._step:
            if commit in self._unclear or not self._pending.is_over(commit):
                await self._write((), forgotten_record(commit))
                self._unclear.discard(commit)

    async def sweep(self, first: int) -> tuple[int, ...]:
        """See ``CommitGroups.sweep``."""
        async with self._step:
            if first > self._pending.first:
                await self._write((), first_record(first))
            return (*self._pending.commits(), *self._unclear)

    async def wait_for_group(self, group_id: str) -> None:
        """Return when no transaction is about to create the group. Raises Unavailable after ``wait_s``."""
        await self._wait(lambda: self._pending.is_pending(group_id), f"the group {group_id!r}")

    async def wait_for_member(self, entity_id: str) -> None:
        """Return when no transaction is about to create a group of the entity. Raises Unavailable after ``wait_s``."""
        await self._wait(lambda: self._pending.is_member_pending(entity_id), f"a group of {entity_id!r}")

    async def _wait(self, is_pending: Callable[[], bool], what: str) -> None:
        if not is_pending():
            return
        try:
            async with asyncio.timeout(self._wait_s):
                while is_pending():
                    await self._changed.wait()
        except TimeoutError:
            raise Unavailable(f"{what} is being created by a transaction", retry_after_s=1.0) from None

    async def _write(self, groups: Sequence[EntanglementGroup], record: dict[str, Any]) -> None:
        await self._make(groups, record)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
