"""Groups that transactions have reserved: waited for, made real, let go; over restarts, and when messages come late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quantum_db.commits.group_commits import GroupCommits
from quantum_db.errors import CorruptData, NotFound, Unavailable
from quantum_db.model import EntanglementGroup
from tests.unit.fakes import FakeGroups, FakeJournal

PAIR = EntanglementGroup("pair", ("a", "b"), 0.5)


async def test_a_reserved_group_is_waited_for_and_then_there() -> None:
    groups = FakeGroups()
    assert await groups.commits.prepare(1, [PAIR]) == (PAIR,)
    assert await groups.commits.prepare(1, [PAIR]) == (PAIR,)
    reading = asyncio.create_task(groups.commits.wait_for_group("pair"))
    member = asyncio.create_task(groups.commits.wait_for_member("b"))
    await groups.commits.wait_for_group("other")
    await asyncio.sleep(0)
    assert (reading.done(), member.done()) == (False, False)
    with pytest.raises(Unavailable, match="in another transaction"):
        await groups.commits.prepare(2, [PAIR])
    await groups.commits.finish(1)
    await asyncio.gather(reading, member)
    assert groups.table.get("pair") == PAIR
    await groups.commits.finish(1)
    await groups.commits.forget(1)
    await groups.commits.forget(1)
    assert await groups.commits.sweep(0) == ()
    with pytest.raises(CorruptData):
        await groups.commits.finish(1)


async def test_what_is_forgotten_before_it_is_finished_is_free_again() -> None:
    groups = FakeGroups()
    await groups.commits.prepare(1, [PAIR])
    await groups.commits.forget(1)
    await groups.commits.prepare(2, [PAIR])
    with pytest.raises(NotFound):
        groups.table.get("pair")


async def test_a_message_that_comes_late_reserves_nothing() -> None:
    groups, journal = FakeGroups(), FakeJournal()

    def opened() -> GroupCommits:
        return GroupCommits(journal, groups.checked, groups.created, wait_s=0.01)

    first = opened()
    await first.forget(12)
    assert await first.sweep(10) == ()
    for registry in (first, opened()):
        for late in (9, 12):  # of an earlier coordinator; of this one, which has given it up
            with pytest.raises(Unavailable, match=f"commit {late} has ended"):
                await registry.prepare(late, [PAIR])
        await registry.wait_for_group("pair")
    assert await registry.prepare(13, [PAIR]) == (PAIR,)
    assert await registry.sweep(20) == (13,)
    assert await registry.prepare(13, [PAIR]) == (PAIR,), "what was reserved stays so until it is forgotten"


async def test_a_reservation_that_may_be_written_down_is_told_of_and_forgotten() -> None:
    class LosingJournal(FakeJournal):
        """Writes, and says that it did not."""

        loses = False

        def append(self, *args: Any, **more: Any) -> int:
            number = super().append(*args, **more)
            if self.loses:
                raise Unavailable("no answer")
            return number

    groups, journal = FakeGroups(), LosingJournal()
    registry = GroupCommits(journal, groups.checked, groups.created)
    journal.loses = True
    with pytest.raises(Unavailable):
        await registry.prepare(1, [PAIR])
    journal.loses = False
    assert await registry.sweep(5) == (1,)
    await registry.forget(1)
    again = GroupCommits(journal, groups.checked, groups.created)
    assert await again.sweep(5) == ()
    await again.wait_for_group("pair")


async def test_the_registry_knows_after_a_restart_what_was_reserved_and_finished() -> None:
    groups, journal = FakeGroups(), FakeJournal()

    def opened() -> GroupCommits:
        return GroupCommits(journal, groups.checked, groups.created, wait_s=0.01)

    first = opened()
    await first.prepare(1, [PAIR])
    await first.prepare(2, [EntanglementGroup("other", ("c", "d"), 0.1)])
    await first.finish(2)
    for n in range(3, 2_000):  # enough for a compaction
        await first.prepare(n, [EntanglementGroup(f"g{n}", ("c", "d"), 0.1)])
        await first.forget(n)
    again = opened()
    assert await again.sweep(0) == (1, 2)
    with pytest.raises(Unavailable, match="being created by a transaction"):
        await again.wait_for_group("pair")
    await again.wait_for_group("other")
    assert len(journal.streams["pending-groups"]) < 2_500
