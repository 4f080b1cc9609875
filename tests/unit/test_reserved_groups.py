"""Groups that transactions have reserved: waited for, made real, let go; over restarts, and when messages come late."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quantum_db.clock import SystemClock
from quantum_db.commits.group_commits import GroupCommits
from quantum_db.commits.pending_groups import PendingGroups
from quantum_db.errors import CorruptData, NotFound, Unavailable
from quantum_db.group_store import GroupRegistry, GroupShard, split_groups
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.model import EntanglementGroup
from quantum_db.sharding import shard_of
from tests.unit.fakes import FakeGroups

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


async def opened(path: Path) -> tuple[Keeper[GroupShard], GroupRegistry]:
    keeper = Keeper(GroupShard(), SqliteJournal(path / "groups.sqlite"), "groups", lambda error: None)
    await keeper.load()
    return keeper, GroupRegistry(keeper, SystemClock())


async def test_a_message_that_comes_late_reserves_nothing(tmp_path: Path) -> None:
    keeper, registry = await opened(tmp_path)
    await registry.forget(12)
    assert await registry.sweep(10) == ()
    for restarted in (False, True):
        if restarted:
            await keeper.close()
            keeper, registry = await opened(tmp_path)
        for late in (9, 12):  # of an earlier coordinator; of this one, which has given it up
            with pytest.raises(Unavailable, match=f"commit {late} has ended"):
                await registry.prepare(late, [PAIR])
        await registry.commits.wait_for_group("pair")
    assert await registry.prepare(13, [PAIR]) == (PAIR,)
    assert await registry.sweep(20) == (13,)
    assert await registry.prepare(13, [PAIR]) == (PAIR,), "what was reserved stays so until it is forgotten"
    await keeper.close()


async def test_the_registry_knows_after_a_restart_what_was_reserved_and_finished(tmp_path: Path) -> None:

    keeper, first = await opened(tmp_path)
    await first.prepare(1, [PAIR])
    await first.prepare(2, [EntanglementGroup("other", ("c", "d"), 0.1)])
    await first.finish(2)
    for n in range(3, 50):
        await first.prepare(n, [EntanglementGroup(f"g{n}", ("c", "d"), 0.1)])
        await first.forget(n)
    for compacted in (False, True):
        if compacted:
            await keeper.compact()
        await keeper.close()
        keeper, again = await opened(tmp_path)
        assert await again.sweep(0) == (1, 2)
        with pytest.raises(Unavailable, match="being created by a transaction"):
            await again.create(PAIR)
        assert again.table.get("other").entity_ids == ("c", "d")
    parts = list(split_groups(keeper.kept, 3))
    for place in range(3):
        shard = GroupShard()
        for number, (owner, record) in enumerate(parts, 1):
            if owner == place:
                shard.apply(number, record)
        assert shard.pending.commits() == (1, 2)
        assert (shard.pending.is_finished(1), shard.pending.is_finished(2)) == (False, True)
        assert shard.pending.is_pending("pair") == (place == shard_of("pair", 3))
    await again.finish(1)
    assert again.table.get("pair") == PAIR
    await keeper.close()


async def test_a_reservation_that_may_be_written_down_is_told_of_and_forgotten() -> None:
    """A write that failed may be in the journal all the same: then only a record of its end makes sure of it."""
    written: list[dict[str, Any]] = []
    pending, fails = PendingGroups(), [True]

    async def make(groups: Sequence[EntanglementGroup], record: dict[str, Any]) -> None:
        written.append(record)
        if fails.pop() if fails else False:
            raise Unavailable("the answer was lost")
        pending.apply(len(written), record)

    commits = GroupCommits(pending, lambda group: group, make)
    with pytest.raises(Unavailable, match="the answer was lost"):
        await commits.prepare(7, [PAIR])
    assert await commits.sweep(0) == (7,)
    await commits.forget(7)
    assert await commits.sweep(0) == ()
    after_a_restart = PendingGroups()
    for number, record in enumerate(written, 1):
        after_a_restart.apply(number, record)
    assert not after_a_restart.is_pending("pair")
