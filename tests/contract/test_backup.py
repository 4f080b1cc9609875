"""Backups of a real store and real journals: whole, fitting together, and refused when anything is wrong with them."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from quantum_db.encryption import Keyring
from quantum_db.errors import Conflict, CorruptData, InvalidRequest, InvalidSettings, QuantumDBError, Unavailable
from quantum_db.journals import sqlite_file
from quantum_db.journals.sqlite import SqliteJournal
from quantum_db.model import Entity
from quantum_db.stores.places import STORE
from quantum_db.stores.qdrant_edge import QdrantEdgeStore
from quantum_db.transfer import backup
from tests.contract.vector_stores import D, axis


def entities(start: int, count: int) -> list[Entity]:
    return [Entity(f"e{i}", axis(i % D, 0.1 * i), metadata={"n": i}) for i in range(start, start + count)]


def sealed(store: QdrantEdgeStore, data_dir: Path, folder: Path) -> Path:
    folder.mkdir()
    with store.at_rest():
        backup.copy_all(data_dir, [data_dir / STORE], backup.journals_in(data_dir), folder)
    backup.seal(folder, created_at="2026-01-02T03:04:05+00:00", product="test 1", settings={"states.shards": 1})
    return folder


async def made(tmp_path: Path) -> Path:
    """A backup of 20 entities and two journals, one of them open."""
    data_dir = tmp_path / "data"
    store = QdrantEdgeStore(data_dir / "store")
    await store.upsert(entities(0, 20))
    groups, jobs = SqliteJournal(data_dir / "groups.sqlite"), SqliteJournal(data_dir / "jobs.sqlite")
    groups.append("groups", [{"n": i} for i in range(7)])
    jobs.append("jobs", [{"n": 1}])
    jobs.close()
    folder = sealed(store, data_dir, tmp_path / "backup")
    await store.upsert(entities(20, 5))
    await store.delete(["e0"])
    groups.append("groups", [{"n": 7}])
    assert await store.count() == 24, "the store goes on"
    await store.close()
    groups.close()
    return folder


async def test_a_restored_folder_is_as_it_was_at_the_backup(tmp_path: Path) -> None:
    folder = await made(tmp_path)
    manifest = backup.verify(folder)
    assert manifest.settings == {"states.shards": 1}
    assert {"groups.sqlite", "jobs.sqlite"} < set(manifest.files)
    target = tmp_path / "restored"
    target.mkdir()
    backup.restore(folder, manifest, target)
    store = QdrantEdgeStore(target / "store")
    assert await store.count() == 20
    found = await store.fetch([f"e{i}" for i in range(21)])
    assert [entity.metadata["n"] for entity in found if entity is not None] == list(range(20))
    await store.close()
    journal = SqliteJournal(target / "groups.sqlite")
    assert [record["n"] for _, record in journal.read("groups")] == list(range(7))
    journal.close()
    backup.verify(folder)


async def test_an_encrypted_backup_shows_nothing_and_comes_back(tmp_path: Path) -> None:
    keyring, folder = Keyring("k", {"k": bytes(32)}), tmp_path / "encrypted"
    plain = await made(tmp_path)
    (plain / backup.MANIFEST).unlink()
    folder.mkdir()
    backup.encrypt(plain, folder, keyring)
    backup.seal(folder, created_at="2026-01-02T03:04:05+00:00", product="test 1", settings={})
    shown = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert b"SQLite format" not in shown
    assert b"SQLite format" in b"".join(path.read_bytes() for path in plain.rglob("*") if path.is_file())
    manifest = backup.verify(folder)
    assert all(name.endswith(".sealed") for name in manifest.files)
    for wrong, kind in ((Keyring(), InvalidSettings), (Keyring("k", {"k": bytes(31) + b"x"}), CorruptData)):
        with pytest.raises(kind):
            backup.restore(folder, manifest, tmp_path / "restored", wrong)
        assert not (tmp_path / "restored").exists()
    backup.restore(folder, manifest, tmp_path / "restored", keyring)
    store = QdrantEdgeStore(tmp_path / "restored" / "store")
    assert await store.count() == 20
    await store.close()
    journal = SqliteJournal(tmp_path / "restored" / "groups.sqlite")
    assert [record["n"] for _, record in journal.read("groups")] == list(range(7))
    journal.close()


async def test_a_store_without_data_is_backed_up(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path / "data" / "store")
    folder = sealed(store, tmp_path / "data", tmp_path / "backup")
    backup.restore(folder, backup.verify(folder), tmp_path / "restored")
    restored = QdrantEdgeStore(tmp_path / "restored" / "store")
    assert await restored.dimension() is None
    await restored.upsert(entities(0, 1))
    await restored.close()
    await store.close()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def any_of(folder: Path, pattern: str) -> Path:
    return max(folder.rglob(pattern), key=lambda path: path.stat().st_size)


def manifest_with(folder: Path, key: str, value: object, *, right_sum: bool = True) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content[key] = value
    if right_sum:
        content.pop("sha256")
        content["sha256"] = backup._content_digest(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda f: flip(f / "groups.sqlite"), CorruptData, "groups.sqlite is not what was written"),
        (lambda f: flip(any_of(f / "store", "*.mmap")), CorruptData, "mmap is not what was written"),
        (lambda f: (f / "jobs.sqlite").unlink(), CorruptData, "jobs.sqlite is missing"),
        (lambda f: (f / "extra").touch(), CorruptData, "holds extra, which is not a part of it"),
        (lambda f: (f / "manifest.json").write_text("{"), CorruptData, "manifest.json is damaged"),
        (lambda f: (f / "manifest.json").unlink(), InvalidRequest, "holds no backup"),
        (shutil.rmtree, InvalidRequest, "holds no backup"),
        (lambda f: manifest_with(f, "version", 2), InvalidRequest, "format version 2; this program reads version 1"),
        (lambda f: manifest_with(f, "format", "zip"), InvalidRequest, "is not the manifest of a backup"),
        (lambda f: manifest_with(f, "product", "x", right_sum=False), CorruptData, "does not match its own checksum"),
        (lambda f: manifest_with(f, "files", {"../x": [0, ""]}), CorruptData, "files outside of the backup"),
    ],
)
async def test_a_damaged_or_unknown_backup_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], kind: type[QuantumDBError], message: str
) -> None:
    folder = await made(tmp_path)
    damage(folder)
    with pytest.raises(kind, match=message):
        backup.verify(folder)


async def test_a_restore_leaves_nothing_half_done(tmp_path: Path) -> None:
    folder = await made(tmp_path)
    manifest = backup.verify(folder)
    before = names_in(tmp_path)
    with pytest.raises(Conflict, match="is not empty"):
        backup.restore(folder, manifest, tmp_path / "data")
    flip(folder / "jobs.sqlite")
    with pytest.raises(CorruptData, match="changed while it was read"):
        backup.restore(folder, manifest, tmp_path / "restored")
    assert names_in(tmp_path) == before


async def test_a_damaged_journal_is_not_backed_up(tmp_path: Path) -> None:
    data_dir, folder = tmp_path / "data", tmp_path / "backup"
    store = QdrantEdgeStore(data_dir / "store")
    journal = SqliteJournal(data_dir / "groups.sqlite")
    journal.append("groups", [{"text": "x" * 500} for _ in range(200)])
    journal.close()
    with (data_dir / "groups.sqlite").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    with pytest.raises(CorruptData, match=r"groups\.sqlite"):
        sealed(store, data_dir, folder)
    assert not (folder / "manifest.json").exists()
    assert await store.count() == 0, "the store is open again"
    await store.close()


async def test_a_locked_journal_ends_the_backup_and_not_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "BUSY_TIMEOUT_S", 0.1)
    data_dir = tmp_path / "data"
    store = QdrantEdgeStore(data_dir / "store")
    await store.upsert(entities(0, 3))
    SqliteJournal(data_dir / "groups.sqlite").close()
    other = sqlite3.connect(data_dir / "groups.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match=r"groups\.sqlite cannot be used: database is locked"):
        sealed(store, data_dir, tmp_path / "backup")
    other.close()
    await store.upsert(entities(3, 3))
    assert await store.count() == 6
    await store.close()


async def test_a_store_that_does_not_open_again_says_so(tmp_path: Path) -> None:
    store = QdrantEdgeStore(tmp_path / "store")
    await store.upsert(entities(0, 3))
    resting = store.at_rest()
    data = resting.__enter__()
    assert data is not None
    (data / "manifest.json").write_text("{")
    with pytest.raises(CorruptData):
        resting.__exit__(None, None, None)
    with pytest.raises(Unavailable, match="has been closed"):
        await store.count()


async def counts_in_copies(tmp_path: Path, turns: int) -> list[list[int]]:
    """Back up while a writer puts each number into the journals a, b and c in turn; return what each copy holds."""
    data_dir = tmp_path / "data"
    store = QdrantEdgeStore(data_dir / "store")
    names = ("a", "b", "c")
    journals = [SqliteJournal(data_dir / f"{name}.sqlite") for name in names]
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            for journal in journals:
                journal.append("s", [{"n": number}])

    writer = threading.Thread(target=write)
    writer.start()
    found = []
    try:
        for turn in range(turns):
            folder = sealed(store, data_dir, tmp_path / f"backup{turn}")
            copies = [SqliteJournal(folder / f"{name}.sqlite") for name in names]
            found.append([copy.last("s") for copy in copies])
            for copy in copies:
                copy.close()
    finally:
        stop.set()
        writer.join()
    assert journals[0].last("s") > turns
    await store.close()
    return found


def of_one_moment(counts: list[int]) -> bool:
    """At any one moment a has as many numbers as b, or one more, and b as c."""
    return counts == sorted(counts, reverse=True) and counts[0] - counts[-1] <= 1


async def test_journals_are_copied_at_one_moment(tmp_path: Path) -> None:
    assert all(map(of_one_moment, await counts_in_copies(tmp_path, 15)))


async def test_the_check_sees_copies_of_several_moments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = backup._copy_journal
    monkeypatch.setattr(backup, "_locked", lambda journal: nullcontext())
    monkeypatch.setattr(backup, "_copy_journal", lambda journal, to: (time.sleep(0.1), copy(journal, to)))
    assert not all(map(of_one_moment, await counts_in_copies(tmp_path, 3)))
