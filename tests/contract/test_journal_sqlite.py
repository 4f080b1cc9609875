"""The file of the SQLite journal: formats, damage, a full or read-only disk, several processes, freed pages."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest

from quantum_db.errors import CorruptData, Unavailable
from quantum_db.journals import sqlite_file
from quantum_db.journals.sqlite import SqliteJournal
from tests.contract.journals import STREAM, held, numbered, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.sqlite"


def filled(path: Path, records: int = 3) -> None:
    with closing(SqliteJournal(path)) as journal:
        journal.append(STREAM, numbered(1, records))


# Formats


def write_format_1(path: Path, records: list[tuple[str, str]]) -> None:
    """As version 0.1.0 did."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY AUTOINCREMENT, "
            "stream TEXT NOT NULL, record TEXT NOT NULL)"
        )
        connection.execute("CREATE INDEX IF NOT EXISTS by_stream ON records (stream, number)")
        connection.execute("PRAGMA user_version = 1")
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO records (stream, record) VALUES (?, ?)", records)
        connection.execute("COMMIT")


def dump(connection: sqlite3.Connection) -> list[object]:
    connection.text_factory = bytes
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("records", "sqlite_master")]


OLD = [(stream, json.dumps(record)) for record in numbered(1, 3) for stream in (STREAM, "other")]


def test_format_1_is_migrated_and_streams_are_numbered_by_themselves(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write_format_1(path, OLD)
    for _ in range(2):
        with closing(SqliteJournal(path)) as journal:
            assert held(journal) == rows(1, 3)
            assert list(journal.read("other", after=1)) == rows(2, 3)
    with closing(SqliteJournal(path)) as journal:
        assert journal.append(STREAM, numbered(4, 4), epoch=journal.begin_epoch(STREAM)) == 4
        assert held(journal) == rows(1, 4)


def test_an_empty_format_1_is_migrated(tmp_path: Path) -> None:
    write_format_1(tmp_path / "j", [])
    with closing(SqliteJournal(tmp_path / "j")) as journal:
        assert held(journal) == []
        assert journal.append(STREAM, numbered(1, 1)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE records SET record = '{broken' WHERE number = 5", "record 5 cannot be read"),
        ("UPDATE records SET record = '[1]' WHERE number = 5", "record 5 cannot be read"),
        ("UPDATE records SET record = CAST(X'7b7dff' AS TEXT) WHERE number = 5", "record 5 cannot be read"),
        ("UPDATE records SET stream = CAST(X'ff' AS TEXT) WHERE number = 5", "record 5 cannot be read"),
        ("DELETE FROM records WHERE number = 2", "it has 5 records of 6"),
        ("DELETE FROM records WHERE number = 6", "it has 5 records of 6"),
    ],
)
def test_a_damaged_format_1_is_refused_and_stays_as_it_is(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "j"
    write_format_1(path, OLD)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)
    with closing(sqlite3.connect(path)) as connection:
        before = dump(connection)
    for _ in range(2):
        with pytest.raises(CorruptData, match=message):
            SqliteJournal(path)
    with closing(sqlite3.connect(path)) as connection:
        assert dump(connection) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)


@pytest.mark.parametrize("version", [0, 3, 99])
def test_another_format_is_refused(tmp_path: Path, version: int) -> None:
    path = tmp_path / "j"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE theses (text TEXT)")
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(CorruptData, match=rf"has format {version}; this version reads 2 and migrates 1"):
        SqliteJournal(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM theses").fetchone() == (0,)


def test_another_file_with_our_number_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(CorruptData, match="its tables are gone or are others"):
        SqliteJournal(path)


# Damage


def cut_to(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


def overwrite(start: int, end: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[start:end] = b"\xa5" * (end - start)
        path.write_bytes(content)

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        *(cut_to(size) for size in (0, 1, 99, 100, 1000, 4096, 3 * 4096, 3 * 4096 + 77)),
        *(overwrite(start, start + 4096) for start in (0, 4096, 2 * 4096, 5 * 4096, 12 * 4096)),
        overwrite(16, 18),
        lambda path: path.write_bytes(b"no database at all, but long enough to be looked at as one" * 200),
    ],
)
def test_a_damaged_file_is_told_with_its_path_and_never_taken_for_empty(
    path: Path, damage: Callable[[Path], None]
) -> None:
    filled(path, 1_000)
    assert path.stat().st_size > 13 * 4096
    damage(path)
    for _ in range(2):
        with pytest.raises(CorruptData, match=rf"{re.escape(str(path))}.*restore it from a backup"):
            list(SqliteJournal(path).read(STREAM))


def test_every_flipped_byte_is_found_or_harmless(path: Path) -> None:
    """Whatever byte is damaged: either the journal says so or it gives the records as they were."""
    filled(path, 40)
    whole = path.read_bytes()
    told, refused = 0, []
    for at in (*range(100), *range(100, len(whole), 97)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xD5]) + whole[at + 1 :])
        try:
            with closing(SqliteJournal(path)) as journal:
                assert held(journal) == rows(1, 40)
        except CorruptData:
            told += 1
        except Unavailable:  # its header asks for a way of writing that this SQLite does not know
            refused.append(at)
    assert told > 30
    assert all(at < 100 for at in refused)


def test_a_record_in_the_place_of_the_next_one_is_told(path: Path) -> None:
    filled(path)
    with closing(SqliteJournal(path)) as journal:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO records VALUES (?, 4, 0, '{}')", (STREAM,))
        with pytest.raises(CorruptData, match=re.escape(str(path))):
            journal.append(STREAM, numbered(4, 4))
        assert held(journal) == rows(1, 3)


def test_a_file_that_is_gone_while_its_log_is_left_is_told(path: Path) -> None:
    with closing(SqliteJournal(path)) as journal:
        journal.append(STREAM, numbered(1, 1))
        path.unlink()
        with pytest.raises(CorruptData, match=r"the file is gone and its write-ahead log journal\.sqlite-wal is left"):
            SqliteJournal(path)


def test_nothing_but_the_journal_is_left_behind(path: Path) -> None:
    filled(path)
    assert [found.name for found in path.parent.iterdir()] == ["journal.sqlite"]


# Room and rights


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system of its own")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave_bytes: int) -> Path:
    filler = folder / "filler"
    room = os.statvfs(folder)
    filler.write_bytes(b"x" * (room.f_bavail * room.f_frsize - leave_bytes))
    return filler


def test_a_full_disk_is_told_and_the_journal_goes_on_when_there_is_room(small_disk: Path) -> None:
    with closing(SqliteJournal(small_disk / "j")) as journal:
        journal.append(STREAM, numbered(1, 10))
        filler = fill(small_disk, 40_000)
        last = 10
        with suppress(Unavailable):
            while last < 10_000:
                last = journal.append(STREAM, numbered(last + 1, last + 10))
        assert 10 < last < 10_000
        for _ in range(2):
            with pytest.raises(Unavailable, match="full"):
                journal.append(STREAM, numbered(last + 1, last + 500))
        assert journal.last(STREAM) == last
        assert held(journal) == rows(1, last)
        filler.unlink()
        assert journal.append(STREAM, numbered(last + 1, last + 500)) == last + 500
        assert held(journal) == rows(1, last + 500)
    with closing(SqliteJournal(small_disk / "j")) as journal:
        assert held(journal) == rows(1, last + 500)


def test_a_journal_is_not_half_made_on_a_full_disk(small_disk: Path) -> None:
    filler = fill(small_disk, 8_192)
    with pytest.raises(Unavailable):
        SqliteJournal(small_disk / "j")
    assert [found.name for found in small_disk.iterdir()] == ["filler"]
    filler.unlink()
    filled(small_disk / "j")


def test_a_migration_that_finds_no_room_leaves_the_old_file(small_disk: Path) -> None:
    old = [(STREAM, json.dumps(record)) for record in numbered(1, 3_000)]
    write_format_1(small_disk / "j", old)
    filler = fill(small_disk, 50_000)
    with pytest.raises(Unavailable, match="full"):
        SqliteJournal(small_disk / "j")
    with closing(sqlite3.connect(small_disk / "j")) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (3_000,)
    filler.unlink()
    with closing(SqliteJournal(small_disk / "j")) as journal:
        assert held(journal) == rows(1, 3_000)


def test_a_read_only_disk_is_told(small_disk: Path) -> None:
    filled(small_disk / "j")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for name in ("j", "new"):
        with pytest.raises(Unavailable, match=rf"the journal {small_disk}/{name} cannot be"):
            SqliteJournal(small_disk / name)
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    filled(small_disk / "new")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteJournal(tmp_path / "j")


def test_a_path_that_cannot_be_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "j"):
        with pytest.raises(Unavailable, match="cannot be opened"):
            SqliteJournal(path)


# Several openers


def test_a_writer_waits_for_another_one_and_not_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.2)
    with closing(SqliteJournal(path)) as journal, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            journal.append(STREAM, numbered(1, 1))
        assert held(journal) == []
        other.execute("ROLLBACK")
        assert journal.append(STREAM, numbered(1, 1)) == 1


def test_many_may_make_the_same_journal_at_once(path: Path) -> None:
    def make(_: int) -> int:
        with closing(SqliteJournal(path)) as journal:
            return journal.append(STREAM, [{"by": threading.get_ident()}])

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(make, range(8))) == list(range(1, 9))
    with closing(SqliteJournal(path)) as journal:
        assert [number for number, _ in held(journal)] == list(range(1, 9))


# Pages


def test_pages_that_compactions_free_are_used_again(path: Path) -> None:
    sizes = []
    with closing(SqliteJournal(path)) as journal:
        for _ in range(6):
            last = journal.last(STREAM)
            journal.append(STREAM, numbered(last + 1, last + 5_000))
            journal.compact(STREAM, last + 5_000, [{"s": 1}])
            with closing(sqlite3.connect(path)) as connection:
                sizes.append(connection.execute("PRAGMA page_count").fetchone()[0])
    assert sizes[0] > 50
    assert max(sizes[1:]) <= sizes[0] * 1.1
