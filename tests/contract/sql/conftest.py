"""A database for the contract of Engine: one in a folder of each test, or a schema in one real PostgreSQL for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.private_postgres import PrivatePostgres, private_postgres
from sql_synthesizer.engines.ports import Engine
from tests.contract.sql.databases import ENGINES, HIDDEN, NO_POSTGRES, Database, made


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PrivatePostgres]:
    if NO_POSTGRES is not None:
        pytest.skip(NO_POSTGRES)
    with private_postgres() as server:
        yield server


@pytest.fixture(params=ENGINES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    server = request.getfixturevalue("postgres_server") if request.param == "postgres" else None
    with made(request.param, tmp_path, server) as database:
        yield database


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    engine = database.engine(hidden=HIDDEN, ttl_s=0.0)
    yield engine
    engine.close()
