"""Entanglement groups, and how they come back from a journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantum_db.errors import Conflict, CorruptData, NotFound
from quantum_db.groups import GroupTable, record_of
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.model import EntanglementGroup

GROUP = EntanglementGroup("g", ("a", "b", "c"), 0.85)
OTHER = EntanglementGroup("h", ("a", "d"), 0.5)


def test_a_group_is_found_by_id_and_by_member() -> None:
    table = GroupTable()
    assert table.check_new(GROUP)
    table.put(GROUP)
    assert table.get("g") == GROUP
    assert table.of_member("b") == [GROUP]
    assert table.of_member("x") == []
    with pytest.raises(NotFound, match="there is no entanglement group 'h'"):
        table.get("h")


def test_the_same_group_again_is_no_change_and_another_is_a_conflict() -> None:
    table = GroupTable()
    table.put(GROUP)
    assert not table.check_new(EntanglementGroup("g", ("c", "b", "a"), 0.85))
    with pytest.raises(Conflict, match="other members or another correlation_strength"):
        table.check_new(EntanglementGroup("g", ("a", "b"), 0.85))


def test_a_replaced_group_leaves_no_member_behind() -> None:
    table = GroupTable()
    table.put(GROUP)
    table.put(EntanglementGroup("g", ("a", "d"), 0.5, version=2))
    assert table.of_member("b") == []
    assert [group.version for group in table.of_member("d")] == [2]


def test_groups_come_back_from_a_journal(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "deep" / "journal.sqlite")
    assert journal.append("groups", [record_of(GROUP), record_of(OTHER)]) == 2
    journal.close()
    again = SqliteJournal(tmp_path / "deep" / "journal.sqlite")
    table = GroupTable(record for _, record in again.read("groups"))
    again.compact("groups", 2, [record_of(GROUP)])
    compacted = GroupTable(record for _, record in again.read("groups"))
    again.close()
    assert (table.get("g"), table.get("h"), len(table), len(compacted)) == (GROUP, OTHER, 2, 1)
    assert compacted.get("g") == GROUP


def test_a_group_record_that_cannot_be_read_is_told() -> None:
    with pytest.raises(CorruptData, match="a group record cannot be read"):
        GroupTable([{"group_id": "g"}])
