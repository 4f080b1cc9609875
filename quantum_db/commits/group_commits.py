"""The registry's side of transactions: ``PendingGroups`` with their journal, and callers who wait for a group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

from quantum_db.commits.pending_groups import (
    STREAM,
    PendingGroups,
    finished_record,
    first_record,
    forgotten_record,
    prepared_record,
)
from quantum_db.errors import Unavailable
from quantum_db.model import EntanglementGroup
from quantum_db.ports import Journal

WAIT_S: Final = 2.0
"""How long a caller waits for a group that a transaction is about to create."""


class GroupCommits:
    """Implements ``CommitGroups`` beside a table of groups. No method suspends but those that wait."""

    def __init__(
        self,
        journal: Journal,
        check: Callable[[EntanglementGroup], EntanglementGroup],
        create: Callable[[EntanglementGroup], EntanglementGroup],
        wait_s: float = WAIT_S,
    ) -> None:
        """Read what was pending.

        Args:
            journal: of the registry, open.
            check: returns a group with the version that ``create`` would give it, or raises Conflict.
            create: writes a group into the table, durably and idempotently.
        """
        self._journal = journal
        self._check = check
        self._create = create
        self._wait_s = wait_s
        self._pending = PendingGroups()
        self._unclear: set[int] = set()  # an append failed: a reservation may be in the journal all the same
        self._changed = asyncio.Event()
        for number, record in journal.read(STREAM):
            self._pending.apply(number, record)

    async def prepare(self, commit: int, groups: Sequence[EntanglementGroup]) -> tuple[EntanglementGroup, ...]:
        """See ``CommitGroups.prepare``."""
        known = self._pending.prepared(commit)
        if known is not None:
            return known
        if self._pending.is_over(commit):
            raise Unavailable(f"commit {commit} has ended; this message came late")
        self._pending.check_free(groups)
        checked = tuple(self._check(group) for group in groups)
        self._unclear.add(commit)
        self._write(prepared_record(commit, checked))
        self._unclear.discard(commit)
        return checked

    async def finish(self, commit: int) -> None:
        """See ``CommitGroups.finish``."""
        if not self._pending.is_finished(commit):
            for group in self._pending.prepared(commit) or ():
                self._create(group)
            self._write(finished_record(commit))

    async def forget(self, commit: int) -> None:
        """See ``CommitGroups.forget``."""
        if commit in self._unclear or not self._pending.is_over(commit):
            self._write(forgotten_record(commit))
            self._unclear.discard(commit)

    async def sweep(self, first: int) -> tuple[int, ...]:
        """See ``CommitGroups.sweep``."""
        if first > self._pending.first:
            self._write(first_record(first))
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

    def _write(self, record: dict[str, Any]) -> None:
        self._pending.apply(self._journal.append(STREAM, [record]), record)
        snapshot = self._pending.snapshot()
        if snapshot is not None:
            self._journal.compact(STREAM, self._pending.number, snapshot)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
