"""The SQLite journal, and entanglement groups in it."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from quantum_db.errors import CorruptData, Unavailable
from quantum_db.groups import GroupTable, record_of
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.model import EntanglementGroup

GROUP = EntanglementGroup("g", ("a", "b", "c"), 0.85)


def test_groups_come_back_from_a_journal(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "deep" / "journal.sqlite")
    assert journal.append("groups", [record_of(GROUP)]) == 1
    journal.close()
    again = SqliteJournal(tmp_path / "deep" / "journal.sqlite")
    table = GroupTable()
    table.restore(record for _, record in again.read("groups"))
    assert table.get("g") == GROUP


def test_streams_are_apart_and_reading_goes_on_after_a_number(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j")
    journal.append("x", [{"n": 1}, {"n": 2}])
    journal.append("y", [{"n": 3}])
    assert list(journal.read("x", after=1)) == [(2, {"n": 2})]
    assert [record for _, record in journal.read("y")] == [{"n": 3}]


def test_an_append_is_all_or_nothing(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j")
    with pytest.raises(TypeError):
        journal.append("x", [{"n": 1}, {"n": object()}])
    assert list(journal.read("x")) == []


def test_what_is_not_a_journal_is_refused_and_never_taken_for_empty(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"no database at all, but long enough to be looked at as one" * 20)
    with pytest.raises(CorruptData, match="is not a journal"):
        SqliteJournal(path)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(CorruptData, match="has format 99; this version reads 1"):
        SqliteJournal(path)


def test_a_record_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "j")
    journal.append("x", [{"n": 1}])
    journal._connection.execute("UPDATE records SET record = '{broken'")
    with pytest.raises(CorruptData, match="cannot be read"):
        list(journal.read("x"))
    with pytest.raises(CorruptData, match="a group record cannot be read"):
        GroupTable().restore([{"group_id": "g"}])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteJournal(tmp_path / "j")


def test_a_path_that_is_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteJournal(tmp_path)
