"""States, groups and the commit journal, kept by each kind of journal: there again after a restart, in any layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from quantum_db.clock import SystemClock
from quantum_db.commits.coordinator import Coordinator
from quantum_db.commits.operations import CreateGroup, Insert, Transaction
from quantum_db.errors import CorruptData, Fenced, NotFound
from quantum_db.group_store import GroupRegistry, GroupShard, split_groups
from quantum_db.groups import GroupUpdate
from quantum_db.journals.keeper import Held, Keeper
from quantum_db.journals.layout import Kind, Places, ShardPlace, settle
from quantum_db.journals.open import open_journal
from quantum_db.lifecycle import Happening
from quantum_db.model import EntanglementGroup, Entity
from quantum_db.sessions import Observation, SessionKey
from quantum_db.sharding import shard_of
from quantum_db.state_store import StateShard, events_record, observed_record, split_shard
from quantum_db.states.batches import happened
from quantum_db.states.history import Instances
from quantum_db.stores.places import OneStore
from tests.contract.journals import Place
from tests.unit.fakes import FakeGroups, FakeStates, FakeStore

NAMES = [f"e{number}" for number in range(20)]
KEY = SessionKey("tenant", "session")
GROUP = EntanglementGroup("g", ("e0", "e1", "e2"), 0.5)
STATES = Kind(lambda: StateShard(100), split_shard)


async def kept(fresh: Callable[[], Held], place: ShardPlace, fenced: list[Fenced] | None = None) -> Keeper[Held]:
    told = [] if fenced is None else fenced
    keeper = Keeper(fresh(), open_journal(place.url), place.stream, told.append)
    await keeper.load()
    return keeper


async def filled(keeper: Keeper[StateShard], names: list[str]) -> None:
    for commit, what in enumerate((Happening.CREATED, Happening.PREPARED, Happening.MEASURED, Happening.CREATED), 1):
        number = commit if what is Happening.CREATED else 0
        await keeper.write([events_record(happened(what, names, float(commit), 1e9, number), float(commit))])


def all_instances(keeper: Keeper[StateShard]) -> dict[str, Instances | None]:
    return {name: keeper.kept.instances(name, 5.0) for name in NAMES}


@pytest.mark.parametrize("compacted", [False, True])
async def test_states_and_sessions_are_there_after_a_restart(place: Place, compacted: bool) -> None:
    where = ShardPlace(place.url, "states-1-0")
    keeper = await kept(lambda: StateShard(15), where)
    await filled(keeper, NAMES)
    contexts = {"e1": ["x"], "e2": ["x"]}
    await keeper.write([observed_record(KEY, Observation("m", "e0", "x"), [GROUP], contexts, 5.0)])
    if compacted:
        await keeper.compact()
    await keeper.write([events_record(happened(Happening.ARCHIVED, ["e19"], 4.5, commit=9), 4.5)])
    before, session = all_instances(keeper), keeper.kept.sessions.get(KEY, 5.0)
    await keeper.close()
    again = await kept(lambda: StateShard(15), where)
    assert all_instances(again) == before
    assert again.kept.sessions.get(KEY, 5.0) == session
    await again.close()


async def test_groups_are_there_after_a_restart_with_what_is_reserved(place: Place) -> None:
    where = ShardPlace(place.url, "groups-1-0")
    keeper = await kept(GroupShard, where)
    groups = GroupRegistry(keeper, SystemClock())
    await groups.create(GROUP)
    await groups.update("g", GroupUpdate(add=("e3",)), 1)
    await groups.create(EntanglementGroup("gone", ("e0", "e1"), 1.0))
    await groups.delete("gone", None)
    await groups.commits.prepare(7, [EntanglementGroup("h", ("e4", "e5"), 0.25)])
    await keeper.compact()
    await keeper.close()
    keeper = await kept(GroupShard, where)
    again = GroupRegistry(keeper, SystemClock())
    assert (again.table.get("g").entity_ids, again.table.get("g").version) == (("e0", "e1", "e2", "e3"), 2)
    with pytest.raises(NotFound):
        again.table.get("gone")
    assert await again.commits.sweep(0) == (7,)
    await again.commits.finish(7)
    assert again.table.get("h").correlation_strength == 0.25
    await keeper.close()


async def test_a_second_owner_fences_the_first(place: Place) -> None:
    where, told = ShardPlace(place.url, "states-1-0"), list[Fenced]()
    first = await kept(STATES.fresh, where, told)
    await filled(first, NAMES[:3])
    second = await kept(STATES.fresh, where)
    with pytest.raises(Fenced):
        await filled(first, NAMES[3:])
    assert told
    assert all_instances(second)["e3"] is None
    for one in (first, second):
        await one.close()


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 2)])
async def test_the_number_of_shards_may_change(place: Place, tmp_path: Path, before: int, after: int) -> None:
    places = Places("states", tmp_path, place.url)

    async def shards(count: int) -> list[Keeper[StateShard]]:
        layout = settle(places, count, STATES)
        return [await kept(STATES.fresh, places.shard(layout, number)) for number in range(count)]

    for number, keeper in enumerate(old := await shards(before)):
        await filled(keeper, [name for name in NAMES if shard_of(name, before) == number])
    found = {name: old[shard_of(name, before)].kept.instances(name, 5.0) for name in NAMES}
    for keeper in old:
        await keeper.close()
    new = await shards(after)
    assert {name: new[shard_of(name, after)].kept.instances(name, 5.0) for name in NAMES} == found
    for keeper in new:
        await keeper.close()
    group_places = Places("groups", tmp_path, place.url)
    assert settle(group_places, 2, Kind(GroupShard, split_groups)).shards == 2, "beside the states"


async def test_a_damaged_journal_is_never_taken_for_an_empty_one(place: Place) -> None:
    where = ShardPlace(place.url, "facts")
    keeper = await kept(STATES.fresh, where)
    await filled(keeper, NAMES)
    await keeper.close()
    place.remove(2)
    with pytest.raises(CorruptData):
        await kept(STATES.fresh, where)


async def test_transactions_are_done_once_over_restarts(place: Place) -> None:
    store, groups, states = FakeStore(), FakeGroups(), FakeStates()

    def opened() -> Coordinator:
        def fail(error: Fenced) -> None:
            raise AssertionError(error)

        return Coordinator(
            stores=OneStore(store),
            groups=groups.commits,
            states=states,
            open_journal=lambda: open_journal(place.url),
            clock=SystemClock(),
            rng=np.random.default_rng(0),
            on_fenced=fail,
        )

    vector = np.array([1.0, 0.0], dtype=np.float32)
    inserts = [Insert(Entity(name, vector)) for name in ("e0", "e1", "e2")]
    transaction = Transaction((*inserts, CreateGroup(GROUP)), "key")
    first = opened()
    done = await first.do(transaction)
    await first.close()
    store.entities.clear()  # of what was not flushed a crash of the machine may leave nothing
    second = opened()
    assert await second.do(transaction) == done
    assert {entity.version for entity in store.entities.values()} == {done["commit"]}
    assert len(store.entities) == 3
    assert (await states.instances("e0")).current.generation == 1, "it was told twice"
    assert len([event for event in states.events if event.entity_id == "e0"]) == 2
    await second.close()
