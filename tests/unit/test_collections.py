"""Which collections there are, against a dictionary; and that nothing shared lets one look into another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_db.collection_table import CollectionTable, dropped_record, erased_record
from quantum_db.errors import Conflict, CorruptData, InvalidRequest, NoSuchCollection, NotFound, TooMany
from quantum_db.groups import GroupUpdate
from quantum_db.lifecycle import Happening
from quantum_db.model import EntanglementGroup
from quantum_db.scope import DEFAULT_SCOPE, MARK, Scope, scoped, unscoped
from quantum_db.scoped import ScopedGroups, ScopedSessions, ScopedStateLog
from quantum_db.sessions import SessionKey
from quantum_db.states.batches import happened
from tests.unit.fakes import FakeCollections, FakeGroups, FakeStates
from tests.unit.test_database import Bench

TENANTS = st.sampled_from(["a", "b"])
NAMES = st.sampled_from(["default", "x", "y", "z"])
MOST = 3


class Collections(RuleBasedStateMachine):
    """A table and the plain dictionary that it is to equal, restored from its snapshot now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.table = CollectionTable()
        self.model: dict[Scope, tuple[str, int | None]] = {DEFAULT_SCOPE: ("", None)}
        self.keys = {""}
        self.going: set[str] = set()
        self.number = 0

    def apply(self, record: dict[str, object]) -> None:
        self.number += 1
        self.table.apply(self.number, record)

    @rule(tenant=TENANTS, name=NAMES, dimension=st.sampled_from([None, 2, 3]))
    def create(self, tenant: str, name: str, dimension: int | None) -> None:
        scope = Scope(tenant, name)
        own = [one for one in self.model if one.tenant == tenant]
        known = self.model.get(scope)
        if known is not None and known[1] != dimension:
            with pytest.raises(Conflict):
                self.table.plan(scope, dimension, "cosine", at_s=1.0, most=MOST)
        elif known is None and len(own) >= MOST:
            with pytest.raises(TooMany):
                self.table.plan(scope, dimension, "cosine", at_s=1.0, most=MOST)
        else:
            made, there = self.table.plan(scope, dimension, "cosine", at_s=1.0, most=MOST)
            assert there == (known is not None)
            if known is None:
                assert made.key not in self.keys, "a key is never given out again"
                self.apply(made.record())
                self.apply(made.record())
                self.keys.add(made.key)
                self.model[scope] = (made.key, dimension)

    @rule(tenant=TENANTS, name=NAMES)
    def drop(self, tenant: str, name: str) -> None:
        found = self.model.pop(Scope(tenant, name), None)
        if found is not None:
            self.apply(dropped_record(found[0]))
            self.apply(dropped_record(found[0]))
            self.going.add(found[0])

    @rule()
    def erase(self) -> None:
        for key in sorted(self.going)[:1]:
            self.going.remove(key)
            self.apply(erased_record(key))

    @rule()
    def restart(self) -> None:
        records = list(self.table.snapshot())
        self.table = CollectionTable()
        for number, record in enumerate(records, 1):
            self.table.apply(number, record)

    @invariant()
    def equals_the_model(self) -> None:
        self.table.check()
        for tenant in ("a", "b", "default"):
            names = sorted(scope.collection for scope in self.model if scope.tenant == tenant)
            told, cursor = [], ""
            while True:
                page, following = self.table.page(tenant, cursor, 1)
                told += [one.scope.collection for one in page]
                if following is None:
                    break
                cursor = following
            assert told == names
        for scope, (key, dimension) in self.model.items():
            assert (self.table.get(scope).key, self.table.get(scope).dimension) == (key, dimension)
            self.table.check_live(key)
        assert set(self.table.going) == self.going


Collections.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCollections = Collections.TestCase


def test_a_table_that_contradicts_itself_is_found() -> None:
    table = CollectionTable()
    made, _ = table.plan(Scope("a", "x"), None, "cosine", at_s=1.0, most=9)
    table.apply(1, made.record())
    table._names["a"].clear()
    with pytest.raises(CorruptData, match="contradict"):
        table.check()


@pytest.mark.parametrize("record", [{"t": "other"}, {"t": "created"}, {}, {"t": "last", "number": "x"}])
def test_a_record_that_is_none_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(CorruptData, match="record 7 of the collections"):
        CollectionTable().apply(7, record)


@pytest.mark.parametrize("scope", [Scope("a", ".."), Scope("a", ""), Scope("a/b", "x"), Scope("a", "x" * 65)])
def test_names_that_are_none_are_refused(scope: Scope) -> None:
    with pytest.raises(InvalidRequest, match="1 to 64 letters"):
        CollectionTable().plan(scope, None, "cosine", at_s=1.0, most=9)


@pytest.mark.parametrize("key", ["", "a/x/1"])
def test_an_id_comes_back_as_it_was_given(key: str) -> None:
    assert unscoped(key, scoped(key, "doc~1/ü")) == "doc~1/ü"


def test_no_id_reaches_another_collection() -> None:
    for key in ("", "b/x/2"):
        with pytest.raises(InvalidRequest, match=r"U\+10FFFF"):
            scoped(key, f"{MARK}a/x/1{MARK}doc")


async def test_groups_of_two_collections_do_not_meet() -> None:
    shared = FakeGroups()
    sides = {key: ScopedGroups(shared, key) for key in ("", "a/x/1", "a/x/10")}
    for n, groups in enumerate(sides.values(), 2):
        await groups.create(EntanglementGroup("g", tuple(f"e{i}" for i in range(n)), 0.5))
        await groups.create(EntanglementGroup(f"own{n}", ("e0", "e1"), 0.5))
    for n, groups in enumerate(sides.values(), 2):
        assert (await groups.get("g")).entity_ids == tuple(f"e{i}" for i in range(n))
        first = await groups.page(None, "", 1)
        second = await groups.page(None, str(first.after), 1)
        assert [group.group_id for page in (first, second) for group in page.groups] == ["g", f"own{n}"]
        assert second.after is None or not (await groups.page(None, second.after, 1)).groups
        assert [group.group_id for group in await groups.of_member("e1")] == ["g", f"own{n}"]
        assert [group.group_id for group in (await groups.page("e0", "", 9)).groups] == ["g", f"own{n}"]
    await sides["a/x/1"].entity_deleted("e1")
    assert len((await sides["a/x/10"].get("g")).entity_ids) == 4
    assert len((await sides[""].get("g")).entity_ids) == 2
    changed = await sides["a/x/10"].update("g", GroupUpdate(("new",), ("e0",)), 1)
    assert changed is not None
    assert changed.entity_ids == ("e1", "e2", "e3", "new")
    await sides["a/x/10"].delete("g", None)
    with pytest.raises(NotFound) as told:
        await sides["a/x/10"].get("g")
    assert told.value.detail == "there is no entanglement group 'g'", "the key is not told"
    assert (await sides[""].get("g")).group_id == "g"


def test_states_are_noted_under_the_collections_key() -> None:
    states = FakeStates()
    ScopedStateLog(states, "a/x/1").record(happened(Happening.CREATED, ["e"], 1.0, [1.0]))
    ScopedStateLog(states, "").record(happened(Happening.CREATED, ["e"], 1.0, [1.0]))
    assert [event.entity_id for event in states.events] == [scoped("a/x/1", "e"), "e"]


async def test_the_same_session_in_two_collections_is_two_sessions() -> None:
    asked: list[SessionKey] = []

    class Noted:
        async def end(self, key: SessionKey) -> None:
            asked.append(key)

    for key in ("", "a/x/1"):
        await ScopedSessions(Noted(), key).end(SessionKey("a", "s"))  # type: ignore[arg-type]
    assert asked == [SessionKey("a", "s"), SessionKey("a/x/1", "s")]


async def test_the_calls_of_collections() -> None:
    api = Bench().api
    made = await api.create_collection({"name": "papers", "dimension": 3})
    assert {**made, "created_at": None} == {"name": "papers", "dimension": 3, "metric": "cosine", "created_at": None}
    assert await api.create_collection({"name": "papers", "dimension": 3}) == made, "again, and the same"
    with pytest.raises(Conflict, match="exists with dimension 3"):
        await api.create_collection({"name": "papers", "dimension": 4})
    with pytest.raises(InvalidRequest, match="metric: must be cosine"):
        await api.create_collection({"name": "other", "metric": "euclid"})
    with pytest.raises(InvalidRequest, match="name"):
        await api.create_collection({"name": "a/b"})
    assert [one["name"] for one in (await api.list_collections({}))["collections"]] == ["default", "papers"]
    assert (await api.collection("papers"))["entities"] == 0
    other = Scope("someone")
    with pytest.raises(NoSuchCollection):
        await api.collection("papers", scope=other)
    assert (await api.list_collections({}, scope=other))["collections"] == []
    assert await api.drop_collection("papers") == {"name": "papers", "deleted": True}
    with pytest.raises(NoSuchCollection, match="POST /api/v2/collections"):
        await api.fetch("e", scope=Scope(collection="papers"))


async def test_a_collection_that_was_created_anew_is_found_at_once() -> None:
    """This replica still knows the one before, whose key the store refuses."""
    bench = await Bench().filled(4)
    directory = bench.api._directory
    collections = directory.collections
    assert isinstance(collections, FakeCollections)
    scope = Scope(collection="again")
    await collections.create(scope, None)
    first = await directory.do(scope, _key)
    await collections.drop(scope)
    await collections.create(scope, None)
    seen: list[str] = []

    async def refused_by_the_store(inside: object) -> str:
        key = await _key(inside)
        seen.append(key)
        collections.table.check_live(key)
        return key

    assert await directory.do(scope, refused_by_the_store) != first
    assert seen[0] == first
    await collections.drop(scope)
    with pytest.raises(NoSuchCollection):
        await directory.do(scope, refused_by_the_store)


async def _key(inside: object) -> str:
    return str(inside.collection.key)  # type: ignore[attr-defined]


def test_many_ids_are_scoped_alike() -> None:
    rng = np.random.default_rng(0)
    ids = ["".join(chr(c) for c in rng.integers(33, 1_000, 12)) for _ in range(200)]
    assert len({scoped(key, one) for key in ("", "a/x/1", "a/x/2", "b/x/3") for one in ids}) == 4 * len(set(ids))
