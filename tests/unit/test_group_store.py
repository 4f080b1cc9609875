"""The registry of one shard: durable before it is acknowledged, one change of a group at a time, and told to all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.change_feed import Change, ChangeFeed, Cursor
from quantum_db.errors import Conflict, CorruptData, Fenced, InvalidRequest, NotFound
from quantum_db.group_store import GroupRegistry, GroupShard
from quantum_db.groups import GroupUpdate
from quantum_db.invalidation import Invalidations, RecentlyInvalidated
from quantum_db.journals.keeper import Keeper
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.model import MAX_GROUP_MEMBERS, EntanglementGroup
from tests.unit.fakes import FakeClock

GROUP = EntanglementGroup("g", ("a", "b", "c"), 0.5)
pytestmark = pytest.mark.timeout(60)


def never(error: Fenced) -> None:
    raise AssertionError(error)


async def opened(path: Path) -> tuple[GroupRegistry, Keeper[GroupShard]]:
    keeper = Keeper(GroupShard(), SqliteJournal(path / "groups.sqlite"), "groups", never)
    await keeper.load()
    return GroupRegistry(keeper, FakeClock()), keeper


async def told(registry: GroupRegistry, after: int = 0) -> tuple[Change, ...]:
    return (await registry.feed.after(Cursor(1, after), 0.0)).changes


async def test_changes_are_durable_versioned_and_told(tmp_path: Path) -> None:
    registry, keeper = await opened(tmp_path)
    await registry.create(GROUP)
    await registry.create(GROUP)
    group = await registry.update("g", GroupUpdate(add=("d",), remove=("a",), correlation_strength=0.75), 1)
    assert group == EntanglementGroup("g", ("b", "c", "d"), 0.75, 2)
    assert await registry.update("g", GroupUpdate(add=("d",)), 2) == group, "that changes nothing"
    for wrong, error in ((1, Conflict), (3, Conflict)):
        with pytest.raises(error):
            await registry.update("g", GroupUpdate(add=("e",)), wrong)
    with pytest.raises(NotFound):
        await registry.delete("h", None)
    with pytest.raises(InvalidRequest, match="entity_ids"):
        await registry.update("g", GroupUpdate(add=tuple(f"m{n}" for n in range(MAX_GROUP_MEMBERS))), 2)
    found = await told(registry)
    assert [(one.number, one.group_id, one.version, one.entity_ids) for one in found] == [
        (1, "g", 1, ("a", "b", "c")),
        (2, "g", 2, ("a", "b", "c", "d")),
    ]
    await keeper.close()
    registry, keeper = await opened(tmp_path)
    assert registry.table.get("g") == group
    assert await registry.update("g", GroupUpdate(remove=("b", "c")), 2) is None
    with pytest.raises(NotFound):
        registry.table.get("g")
    assert (await registry.create(GROUP)).version == 4
    assert await registry.delete("g", None) == 5
    await keeper.close()


async def test_of_concurrent_changes_of_one_version_one_succeeds(tmp_path: Path) -> None:
    registry, keeper = await opened(tmp_path)
    await asyncio.gather(*(registry.create(EntanglementGroup(f"g{n}", ("a", f"b{n}"), 0.5)) for n in range(20)))
    updates = [registry.update("g0", GroupUpdate(add=(f"x{n}",)), 1) for n in range(10)]
    answers = await asyncio.gather(*updates, registry.entity_deleted("b1"), return_exceptions=True)
    assert sum(isinstance(one, EntanglementGroup) for one in answers) == 1
    assert sum(isinstance(one, Conflict) for one in answers) == 9
    groups = registry.table.of_member("a")
    await keeper.close()
    registry, keeper = await opened(tmp_path)
    assert registry.table.of_member("a") == groups
    registry.table.validate()
    await keeper.close()


async def test_a_deleted_entity_leaves_all_its_groups_and_a_small_group_goes(tmp_path: Path) -> None:
    registry, keeper = await opened(tmp_path)
    await registry.create(GROUP)
    await registry.create(EntanglementGroup("small", ("a", "z"), 0.5))
    joining = [registry.create(EntanglementGroup(f"late{n}", ("y", "z", f"w{n}"), 0.5)) for n in range(5)]
    await asyncio.gather(registry.entity_deleted("a"), *joining)
    await registry.entity_deleted("a")
    assert registry.table.of_member("a") == []
    assert [one.group_id for one in registry.table.of_member("z")] == [f"late{n}" for n in range(5)]
    assert registry.table.get("g").entity_ids == ("b", "c")
    await keeper.close()


async def test_a_caller_who_leaves_does_not_stop_what_has_begun(tmp_path: Path) -> None:
    registry, keeper = await opened(tmp_path)
    task = asyncio.get_running_loop().create_task(registry.create(GROUP))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await registry.create(GROUP)).version == 1, "after the first one, which went on"
    assert len(await told(registry)) == 1
    await keeper.close()


async def test_a_write_of_an_entity_is_told_with_its_partners_if_it_has_some(tmp_path: Path) -> None:
    registry, keeper = await opened(tmp_path)
    await registry.create(GROUP)
    registry.entities_written(["x", "y"])
    assert len(await told(registry)) == 1
    registry.entities_written(["x", "a"])
    assert [(one.group_id, one.entity_ids) for one in await told(registry, 1)] == [(None, ("a", "b", "c"))]
    await keeper.close()


# The feed


async def test_a_reader_waits_for_the_next_change() -> None:
    feed = ChangeFeed(7, FakeClock())
    first = await feed.after(None, 0.0)
    assert (first.cursor, first.gap) == (Cursor(7, 0), True)
    assert (await feed.after(first.cursor, 0.01)).changes == ()
    waiting = [asyncio.get_running_loop().create_task(feed.after(first.cursor, 30.0)) for _ in range(2)]
    await asyncio.sleep(0)
    feed.add({"b", "a"}, "g", 3)
    for found in await asyncio.gather(*waiting):
        assert (found.cursor, found.gap) == (Cursor(7, 1), False)
        assert [(one.group_id, one.version, one.entity_ids) for one in found.changes] == [("g", 3, ("a", "b"))]


@pytest.mark.parametrize("cursor", [Cursor(6, 0), Cursor(7, 99), Cursor(7, 0)])
async def test_a_reader_that_missed_something_is_told_of_the_gap(cursor: Cursor) -> None:
    feed = ChangeFeed(7, FakeClock(), max_kept_ids=4)
    for number in range(10):
        feed.add([f"e{number}"])
    found = await feed.after(cursor, 0.0)
    assert (found.cursor, found.changes, found.gap) == (Cursor(7, 10), (), True)
    assert [one.number for one in (await feed.after(Cursor(7, 6), 0.0)).changes] == [7, 8, 9, 10]


async def test_a_change_too_large_to_keep_is_a_gap_for_who_waits() -> None:
    feed = ChangeFeed(7, FakeClock(), max_kept_ids=4)
    waiting = asyncio.get_running_loop().create_task(feed.after(Cursor(7, 0), 30.0))
    await asyncio.sleep(0)
    feed.add([f"e{number}" for number in range(5)])
    assert (await waiting).gap


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.booleans()), max_size=40))
def test_a_reader_sees_every_change_once_or_a_gap(steps: list[tuple[int, bool]]) -> None:
    async def run() -> None:
        feed, seen, told_numbers = ChangeFeed(1, FakeClock(), max_kept_ids=6), Cursor(1, 0), []
        for number, (size, reads) in enumerate(steps, 1):
            feed.add([f"e{n}" for n in range(size)])
            if reads:
                found = await feed.after(seen, 0.0)
                told_numbers += [one.number for one in found.changes]
                if found.gap:
                    told_numbers = list(range(1, number + 1))
                seen = found.cursor
                assert told_numbers == list(range(1, number + 1))

    asyncio.run(run())


def test_what_was_invalidated_is_counted_in_bounded_memory() -> None:
    recent, all_of_it = RecentlyInvalidated(bound=2), Invalidations()
    all_of_it.subscribe(recent)
    all_of_it.invalidate(["a", "b"])
    all_of_it.invalidate(["a"])
    all_of_it.invalidate(["c"])
    assert [recent.count(one) for one in "abc"] == [2, 0, 1], "b was the one invalidated longest ago"
    assert (recent.invalidated, len(recent)) == (4, 2)
    all_of_it.drop_all()
    assert (recent.count("a"), recent.dropped_all, len(recent)) == (0, 1, 0)


def test_a_damaged_record_of_a_group_is_refused() -> None:
    with pytest.raises(CorruptData, match="record 3 of the groups"):
        GroupShard().apply(3, {"group_id": "g"})
