"""Entanglement groups against plain dicts; their versions, shards and restarts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quantum_db import entanglement_rules as rules
from quantum_db.errors import Conflict, CorruptData, InvalidRequest, NotFound
from quantum_db.groups import GroupChange, GroupTable, merged_pages, record_of
from quantum_db.model import MAX_GROUP_MEMBERS, EntanglementGroup
from quantum_db.resharding import resharded
from quantum_db.sharding import shard_of

GROUP = EntanglementGroup("g", ("a", "b", "c"), 0.85)
MEMBERS = [f"e{number}" for number in range(6)]
IDS = [f"g{number}" for number in range(4)]
SOME = st.lists(st.sampled_from(MEMBERS), max_size=4, unique=True)


def table_of(*groups: EntanglementGroup) -> GroupTable:
    table = GroupTable()
    for group in groups:
        change = table.plan_create(group)
        assert change is not None
        table.apply(change)
    return table


def test_a_group_is_found_by_id_and_by_member() -> None:
    table = table_of(GROUP)
    assert table.get("g") == GROUP
    assert table.of_member("b") == [GROUP]
    assert table.of_member("x") == []
    with pytest.raises(NotFound, match="there is no entanglement group 'h'"):
        table.get("h")


def test_the_same_group_again_is_no_change_and_another_is_a_conflict() -> None:
    table = table_of(GROUP)
    assert table.plan_create(EntanglementGroup("g", ("c", "b", "a"), 0.85)) is None
    with pytest.raises(Conflict, match="other members or another correlation_strength"):
        table.plan_create(EntanglementGroup("g", ("a", "b"), 0.85))


def test_a_change_tells_the_caches_who_is_concerned() -> None:
    table = table_of(GROUP)
    change = table.plan_extend("g", ["b", "d"], version=1)
    assert change is not None
    assert table.get("g").version == 1, "planned is not made"
    changed = table.apply(change)
    assert (changed.group_id, changed.version, changed.members) == ("g", 2, frozenset("abcd"))
    change = table.plan_shrink("g", ["a", "z"], version=2)
    assert change is not None
    assert table.apply(change).members == frozenset("abcd"), "who has left had it in its answers"
    assert table.get("g") == EntanglementGroup("g", ("b", "c", "d"), 0.85, 3)
    assert table.plan_shrink("g", ["z"], version=3) is table.plan_extend("g", ["b"], version=3) is None


@pytest.mark.parametrize(
    "plan",
    [
        lambda table: table.plan_extend("g", ["d"], version=2),
        lambda table: table.plan_shrink("g", ["a"], version=0),
        lambda table: table.plan_delete("g", version=2),
    ],
)
def test_a_stale_version_is_a_conflict(plan: Callable[[GroupTable], Any]) -> None:
    table = table_of(GROUP)
    with pytest.raises(Conflict, match=r"the group 'g' is at version 1, not at \d; read it again"):
        plan(table)
    assert table.get("g") == GROUP


def test_of_two_changes_planned_at_once_one_is_made() -> None:
    table = table_of(GROUP)
    first, second = (table.plan_extend("g", [one], version=1) for one in "xy")
    assert first is not None
    assert second is not None
    table.apply(first)
    with pytest.raises(Conflict, match="has changed meanwhile"):
        table.apply(second)
    assert table.get("g").entity_ids == ("a", "b", "c", "x")
    table.validate()


def test_a_deleted_group_of_the_same_name_goes_on_with_its_versions() -> None:
    table = table_of(GROUP)
    assert table.apply(table.plan_delete("g", version=1)).members == frozenset("abc")
    assert (len(table), table.of_member("a")) == (0, [])
    change = table.plan_create(GROUP)
    assert change is not None
    assert table.apply(change).version == 3
    with pytest.raises(Conflict):
        table.plan_delete("g", version=1)


def test_deleting_an_entity_leaves_no_group_of_one() -> None:
    pair, other = EntanglementGroup("pair", ("a", "z"), 0.5), EntanglementGroup("other", ("b", "c"), 0.1)
    table = table_of(GROUP, pair, other)
    changed = [table.apply(change) for change in table.plan_leave("a")]
    assert [(one.group_id, one.version, one.members) for one in changed] == [
        ("g", 2, frozenset("abc")),
        ("pair", 2, frozenset("az")),
    ]
    assert table.get("g").entity_ids == ("b", "c")
    assert table.of_member("z") == table.plan_leave("a") == []
    assert table.get("other") == other
    table.validate()


def test_a_group_has_a_bound() -> None:
    table = table_of(EntanglementGroup("g", tuple(f"e{number}" for number in range(MAX_GROUP_MEMBERS)), 0.5))
    with pytest.raises(InvalidRequest, match="entity_ids: the group would have 1001 of 1000 members"):
        table.plan_extend("g", ["x"], version=1)


class GroupMachine(RuleBasedStateMachine):
    """Groups in one table, the same in three shards, and a plain dict; everything written goes through JSON."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.shards = GroupTable(), [GroupTable() for _ in range(3)]
        self.model: dict[str, EntanglementGroup] = {}
        self.versions: dict[str, int] = {}
        self.journal: list[str] = []

    @rule(group_id=st.sampled_from(IDS), members=SOME.filter(lambda some: len(some) > 1), strength=st.floats(0, 1))
    def create(self, group_id: str, members: list[str], strength: float) -> None:
        change = None
        try:
            change = self.make(
                group_id, lambda table: table.plan_create(EntanglementGroup(group_id, (*members,), strength))
            )
        except Conflict:
            assert group_id in self.model
        assert (change is not None) == (group_id not in self.model)
        if change is not None:
            self.expect(group_id, members, strength)

    @rule(group_id=st.sampled_from(IDS), members=SOME, extend=st.booleans(), stale=st.booleans())
    def change_members(self, group_id: str, members: list[str], extend: bool, stale: bool) -> None:
        known = self.model.get(group_id)
        version = (known.version if known else 1) - stale

        def plan(table: GroupTable) -> GroupChange | None:
            return (table.plan_extend if extend else table.plan_shrink)(group_id, members, version=version)

        if known is None or stale:
            with pytest.raises(NotFound if known is None else Conflict):
                self.make(group_id, plan)
            return
        ids = [*known.entity_ids, *members] if extend else [one for one in known.entity_ids if one not in members]
        after = list(dict.fromkeys(ids))
        assert (self.make(group_id, plan) is None) == (after == [*known.entity_ids])
        if after != [*known.entity_ids]:
            self.expect(group_id, after, known.correlation_strength)

    @rule(group_id=st.sampled_from(IDS))
    def delete(self, group_id: str) -> None:
        if group_id in self.model:
            self.make(group_id, lambda table: table.plan_delete(group_id, version=self.model[group_id].version))
            self.expect(group_id, [], 0.0)

    @rule(member=st.sampled_from(MEMBERS))
    def delete_entity(self, member: str) -> None:
        concerned = {group_id for group_id, group in self.model.items() if member in group.entity_ids}
        changes = [self.table.plan_leave(member), *(table.plan_leave(member) for table in self.shards)]
        for change in changes[0]:
            self.write(self.table, change)
        for table, some in zip(self.shards, changes[1:], strict=True):
            for change in some:
                table.apply(change)
        assert {change.group_id for change in changes[0]} == concerned
        for group_id in concerned:
            group = self.model[group_id]
            rest = [one for one in group.entity_ids if one != member]
            self.expect(group_id, rest, group.correlation_strength)

    @rule(compact=st.booleans())
    def restart(self, compact: bool) -> None:
        if compact:
            self.journal = [json.dumps(record) for record in self.table.snapshot()]
        self.table = GroupTable()
        self.table.restore(map(json.loads, self.journal))

    @rule(count=st.integers(1, 4))
    def reshard(self, count: int) -> None:
        old, self.shards = self.shards, [GroupTable() for _ in range(count)]
        for shard, record in resharded([one.snapshot() for one in old], count, lambda record: record["group_id"]):
            self.shards[shard].restore([record])

    @invariant()
    def agree(self) -> None:
        self.table.validate()
        for table in self.shards:
            table.validate()
        assert len(self.table) == sum(map(len, self.shards)) == len(self.model)
        for group_id, group in self.model.items():
            assert self.table.get(group_id) == self.shard(group_id).get(group_id) == group
        for member in MEMBERS:
            expected = [self.model[one] for one in sorted(self.model) if member in self.model[one].entity_ids]
            assert self.table.of_member(member) == expected
            assert self.paged(member, 1) == self.paged(member, 2) == expected
            stale = rules.invalidated(member, expected)
            assert self.table.affected([member]) == stale
            assert frozenset().union(*(table.affected([member]) for table in self.shards)) == stale

    def paged(self, member: str, limit: int) -> list[EntanglementGroup]:
        found: list[EntanglementGroup] = []
        after: str | None = ""
        while after is not None:
            page = merged_pages([table.page_of_member(member, after, limit) for table in self.shards], limit)
            assert len(page.groups) <= limit
            assert page == self.table.page_of_member(member, after, limit)
            found += page.groups
            after = page.after
        return found

    def shard(self, group_id: str) -> GroupTable:
        return self.shards[shard_of(group_id, len(self.shards))]

    def make(self, group_id: str, plan: Callable[[GroupTable], GroupChange | None]) -> GroupChange | None:
        change = plan(self.table)
        assert plan(self.shard(group_id)) == change
        if change is not None:
            self.write(self.table, change)
            self.shard(group_id).apply(change)
        return change

    def write(self, table: GroupTable, change: GroupChange) -> None:
        self.journal.append(json.dumps(change.record()))
        changed = table.apply(change)
        groups = [group for group in (change.before, change.after) if group]
        assert changed.members == {member for group in groups for member in group.entity_ids}

    def expect(self, group_id: str, members: list[str], strength: float) -> None:
        self.versions[group_id] = self.versions.get(group_id, 0) + 1
        self.model.pop(group_id, None)
        if len(members) >= 2:
            self.model[group_id] = EntanglementGroup(group_id, (*members,), strength, self.versions[group_id])


TestGroups = GroupMachine.TestCase
TestGroups.settings = settings(max_examples=80, deadline=None)


@given(st.lists(SOME.filter(lambda some: len(some) > 1), min_size=1, max_size=20), st.integers(1, 4), st.integers(1, 3))
def test_pages_of_any_number_of_shards_are_those_of_one(drawn: list[list[str]], shards: int, limit: int) -> None:
    groups = [EntanglementGroup(f"g{number}", (*members,), 0.5) for number, members in enumerate(drawn)]
    whole, parts = table_of(*groups), [GroupTable() for _ in range(shards)]
    for group in groups:
        parts[shard_of(group.group_id, shards)].restore([record_of(group)])
    for member in MEMBERS:
        after: str | None = ""
        while after is not None:
            page = merged_pages([part.page_of_member(member, after, limit) for part in parts], limit)
            assert page == whole.page_of_member(member, after, limit)
            after = page.after


@pytest.mark.parametrize(
    "change",
    [
        {"group_id": 3},
        {"entity_ids": ["a"]},
        {"entity_ids": ["a", "a"]},
        {"version": "x"},
        {"correlation_strength": None},
    ],
)
def test_a_broken_record_is_told(change: dict[str, object]) -> None:
    with pytest.raises(CorruptData, match="a group record cannot be read"):
        GroupTable().restore([{**record_of(GROUP), **change}])


@pytest.mark.parametrize("fault", ["index", "small", "name"])
def test_validate_catches_a_broken_table(fault: str) -> None:
    table = table_of(GROUP)
    table.validate()
    if fault == "index":
        table._of_member["a"].clear()
    elif fault == "small":
        table._groups["g"] = EntanglementGroup("g", ("a",), 0.5)
    else:
        table._groups["h"] = GROUP
    with pytest.raises(AssertionError):
        table.validate()
