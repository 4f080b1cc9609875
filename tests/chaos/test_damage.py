"""Redis gone, a full disk, a folder that cannot be written, damaged journals: told clearly, and nothing is lost."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quantum_db.errors import CorruptData, QuantumDBError, Unavailable
from tests.chaos.embedded import Embedded
from tests.redis_server import DURABLE, RedisServer, running_redis

VECTOR = [1.0, 0.0]
WAIT_S = 2.0


def body(*names: str) -> dict[str, object]:
    return {"operations": [{"insert": {"id": name, "vector": VECTOR}} for name in names]}


async def written(database: Embedded, first: int, count: int) -> list[str]:
    """Commit transactions of two entities each; return the ids."""
    names = []
    for n in range(first, first + count):
        await database.api.transact(body(f"a{n}", f"b{n}"))
        names += [f"a{n}", f"b{n}"]
    return names


async def assert_whole(database: Embedded, acknowledged: list[str]) -> None:
    """Everything acknowledged is there; of what else is there, both entities of a transaction or none."""
    await database.coordinator.readable()
    found = await database.store.fetch(acknowledged)
    assert [entity.id if entity else None for entity in found] == acknowledged
    assert await database.store.count() % 2 == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 160 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with running_redis(*DURABLE, folder=tmp_path) as server:
        yield server


async def test_a_redis_that_is_killed_under_load_and_comes_back_has_lost_nothing(
    redis: RedisServer, tmp_path: Path
) -> None:
    database = Embedded(tmp_path, f"{redis.url}/0?name=commits", WAIT_S)
    acknowledged, failures, stop = list[str](), list[QuantumDBError](), asyncio.Event()

    async def client(number: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            names = [f"a{number}-{n}", f"b{number}-{n}"]
            try:
                await database.api.transact(body(*names))
                acknowledged.extend(names)
            except Unavailable as error:
                failures.append(error)

    try:
        clients = [asyncio.create_task(client(number)) for number in range(4)]
        for _ in range(3):
            before = len(acknowledged)
            await _until(lambda before=before: len(acknowledged) > before + 20)
            redis.kill()
            failed = len(failures)
            await _until(lambda failed=failed: len(failures) > failed)
            await asyncio.to_thread(redis.start)
        before = len(acknowledged)
        await _until(lambda: len(acknowledged) > before + 20)
        stop.set()
        await asyncio.gather(*clients)
        await _until(lambda: database.coordinator.open_commits == 0)
        await assert_whole(database, acknowledged)
        await database.close()
        database = Embedded(tmp_path, f"{redis.url}/0?name=commits", WAIT_S)
        await assert_whole(database, acknowledged)
    finally:
        await database.close()


async def test_a_full_disk_is_told_and_it_goes_on_when_there_is_room(small_disk: Path) -> None:
    database = Embedded(small_disk, wait_s=WAIT_S)
    acknowledged = await written(database, 0, 20)
    ballast = small_disk / "ballast"
    _fill(ballast)
    told: QuantumDBError | None = None
    for n in range(100, 400):
        try:
            acknowledged += await written(database, n, 1)
        except Unavailable as error:
            told = error
            break
    assert told is not None, "the disk was full, and nothing was told"
    ballast.unlink()
    await _until(lambda: database.coordinator.open_commits == 0)
    acknowledged += await written(database, 1_000, 20)
    await assert_whole(database, acknowledged)
    await database.close()
    database = Embedded(small_disk, wait_s=WAIT_S)
    await assert_whole(database, acknowledged)
    await database.close()


async def test_a_folder_that_cannot_be_written_is_told_and_stays_as_it_is(small_disk: Path) -> None:
    database = Embedded(small_disk)
    acknowledged = await written(database, 0, 20)
    await database.close()
    _remount(small_disk, "ro")
    with pytest.raises(Unavailable, match="cannot be"):
        Embedded(small_disk)
    _remount(small_disk, "rw")
    database = Embedded(small_disk)
    await assert_whole(database, acknowledged)
    acknowledged += await written(database, 100, 5)
    await assert_whole(database, acknowledged)
    await database.close()


@pytest.mark.parametrize(
    ("damage", "repair"),
    [
        (
            "UPDATE records SET body = replace(body, 'commit', 'Commit') "
            "WHERE number = (SELECT max(number) FROM records)",
            "UPDATE records SET body = replace(body, 'Commit', 'commit')",
        ),
        (
            "UPDATE streams SET last = last + 1 WHERE stream = 'commits'",
            "UPDATE streams SET last = last - 1 WHERE stream = 'commits'",
        ),
        (
            "UPDATE snapshots SET body = replace(body, 'through', 'Through') WHERE position = 1",
            "UPDATE snapshots SET body = replace(body, 'Through', 'through')",
        ),
        ("UPDATE snapshots SET position = position + 1000", "UPDATE snapshots SET position = position - 1000"),
    ],
    ids=["the last record", "a record is missing", "the snapshot", "a snapshot that is moved"],
)
async def test_a_damaged_journal_is_refused_and_never_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, repair: str
) -> None:
    # By default a snapshot comes after 2,000 records, and a flush after 1,000 transactions.
    often = {"block": 50, "min_records": 20, "unflushed_commits": 5}
    monkeypatch.setattr("quantum_db.commits.protocol.CommitProtocol.__init__.__kwdefaults__", often)
    database = Embedded(tmp_path)
    acknowledged = await written(database, 0, 40)
    await database.close()
    path = tmp_path / "commits.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute("SELECT count(*) FROM snapshots").fetchone()[0] > 0
        assert connection.execute(damage).rowcount > 0
    before = _held(path)

    database = Embedded(tmp_path)
    with pytest.raises(CorruptData, match=r"commits\.sqlite is damaged") as told:
        await database.coordinator.readable()
    assert len(told.value.detail) < 300
    with pytest.raises(CorruptData):
        await database.api.transact(body("c", "d"))
    await database.close()
    assert _held(path) == before, "what is damaged is left as it is"

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(repair)
    database = Embedded(tmp_path)
    await assert_whole(database, acknowledged)
    acknowledged += await written(database, 100, 5)
    await assert_whole(database, acknowledged)
    await database.close()


def _remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def _held(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in ("records", "snapshots")]


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for portion in (1 << 20, 1 << 12):
            try:
                while True:
                    file.write(b"x" * portion)
            except OSError:
                continue


async def _until(is_so: Callable[[], bool], longest_s: float = 60.0) -> None:
    deadline = time.monotonic() + longest_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        await asyncio.sleep(0.02)
