"""Journals for the contract of Journal: SQLite in a folder of each test, one real Redis for all."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from quantum_db.encryption import DATA_KEYS_ENV
from quantum_db.ports import Journal
from tests.contract.journals import Place, RedisPlace, SqlitePlace, opened
from tests.redis_server import DURABLE, RedisServer, running_redis


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(*DURABLE, folder=tmp_path_factory.mktemp("redis")) as server:
        yield server


_names = (f"j{n}" for n in itertools.count())


@pytest.fixture
def redis_place(redis_server: RedisServer) -> RedisPlace:
    return RedisPlace(redis_server, next(_names))


@pytest.fixture(params=["sqlite", "redis", "encrypted sqlite", "encrypted redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    if request.param.startswith("encrypted"):
        monkeypatch.setenv(DATA_KEYS_ENV, f"k2:{base64.b64encode(bytes(32)).decode()}")
    if request.param.endswith("sqlite"):
        return SqlitePlace(tmp_path / "journal.sqlite")
    return request.getfixturevalue("redis_place")


@pytest.fixture
def journal(place: Place) -> Iterator[Journal]:
    with opened(place) as made:
        yield made
