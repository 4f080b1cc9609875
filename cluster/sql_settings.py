"""The settings of SQL on the cluster: which databases there are, who may use them, and how many workers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from quantum_db.errors import InvalidSettings
from quantum_db.requests import MAX_TIMEOUT_MS
from quantum_db.scope import NAME
from quantum_db.sql_bodies import MAX_ROWS
from quantum_db.sql_calls import SqlDatabase
from serve_app.sql.config import SqlConfig, SqlSource
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.quantum.schedules import Mode

SERVERS: Final = ("postgresql", "postgres")
FILES: Final = ("duckdb", "sqlite")
WANTED: Final = "duckdb:////absolute/path, sqlite:////absolute/path or postgresql://user:password@host/database"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SqlDatabaseSettings(_Section):
    """One database.

    Attributes:
        url_env: the environment variable that holds its URL, on every node.
        hidden: tables (``salaries``) and columns (``people.password``, ``*.email``) that nobody may see.
        tenants: who may use it.
        max_rows: of an answer at most.
        timeout_s: that a request may take at most.
    """

    url_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
    hidden: tuple[str, ...] = ()
    tenants: Literal["all"] | list[str]
    max_rows: Annotated[int, Field(ge=1, le=MAX_ROWS)] = 1_000
    timeout_s: Annotated[float, Field(gt=0.0, le=MAX_TIMEOUT_MS / 1000.0)] = 10.0

    @field_validator("hidden")
    @classmethod
    def _hides_tables_and_columns(cls, hidden: tuple[str, ...]) -> tuple[str, ...]:
        try:
            Reflection(hidden=hidden)
        except InvalidSettings as error:
            raise ValueError(error.detail) from None
        return hidden

    @field_validator("tenants")
    @classmethod
    def _are_names(cls, tenants: str | list[str]) -> str | list[str]:
        for name in tenants if isinstance(tenants, list) else ():
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r} is no tenant: 1 to 64 letters, digits, dots, dashes or underscores")
        return tenants

    def rules(self) -> SqlDatabase:
        """Return what the ingress goes by."""
        tenants = frozenset(self.tenants) if isinstance(self.tenants, list) else None
        return SqlDatabase(tenants, self.max_rows, self.timeout_s)


class SqlSettings(_Section):
    """SQL databases. Without any, nothing of SQL is started.

    Attributes:
        databases: by the name that callers use.
        min_replicas, max_replicas: bounds between which the number of workers follows the requests.
        statements_per_replica: that run at a time in a worker, of each database; when fewer than seven tenths of them
            are free in all workers together, another one is started.
        max_waiting: that wait in a worker, of each database; more are refused.
        scale_down_s: how long fewer workers must have been enough before one goes.
        mode: how much is spent on orders of joins.
        cache_mib: of answers that a worker keeps, of each database; 0 keeps none.
    """

    databases: dict[str, SqlDatabaseSettings] = {}
    min_replicas: Annotated[int, Field(ge=1, le=100)] = 1
    max_replicas: Annotated[int, Field(ge=1, le=100)] = 1
    statements_per_replica: Annotated[int, Field(ge=1, le=100)] = 4
    max_waiting: Annotated[int, Field(ge=0, le=10_000)] = 32
    scale_down_s: Annotated[float, Field(gt=0.0)] = 30.0
    mode: Mode = "balanced"
    cache_mib: Annotated[float, Field(ge=0.0)] = 32.0

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> SqlSettings:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas {self.min_replicas} is above max_replicas {self.max_replicas}")
        return self

    @field_validator("databases")
    @classmethod
    def _have_names(cls, databases: dict[str, SqlDatabaseSettings]) -> dict[str, SqlDatabaseSettings]:
        for name in databases:
            if not re.fullmatch(NAME, name):
                raise ValueError(f"{name!r} is no name: 1 to 64 letters, digits, dots, dashes or underscores")
        return databases

    def config(self) -> SqlConfig:
        """Return what workers have to know."""
        sources = {name: SqlSource(one.url_env, one.hidden) for name, one in self.databases.items()}
        return SqlConfig(sources, self.statements_per_replica, self.max_waiting, self.mode, self.cache_mib)


def check_databases(sql: SqlSettings, environment: Mapping[str, str] | None = None) -> bool:
    """Look at the URLs of all databases, and connect to none.

    Args:
        sql: the settings.
        environment: the variables; the process's own by default.

    Returns:
        Whether any is a file, so that its workers must be on this node.

    Raises:
        InvalidSettings: a variable is not set, or holds no URL that a worker could open. The URL itself is never told.
    """
    known = os.environ if environment is None else environment
    kinds = [
        _checked(f"sql.databases.{name}.url_env", one.url_env, known.get(one.url_env, ""))
        for name, one in sql.databases.items()
    ]
    return any(kind in FILES for kind in kinds)


def _checked(setting: str, variable: str, url: str) -> str:
    """Return the scheme of a URL. Raises InvalidSettings."""
    if not url:
        raise InvalidSettings(f"{setting}: the environment variable {variable} is not set; it must hold {WANTED}")
    scheme = url.partition(":")[0].lower()
    if scheme in SERVERS:
        return scheme
    parts = urlsplit(url)
    path = Path(unquote(parts.path.removeprefix("/")))
    if scheme not in FILES or parts.netloc or parts.query:
        raise InvalidSettings(f"{setting}: the environment variable {variable} holds no URL of a database: {WANTED}")
    if not path.is_absolute():
        told = "its path is relative, and workers run in other folders"
        raise InvalidSettings(f"{setting}: {told}: {variable} must hold {scheme}:////absolute/path, with four slashes")
    if not path.is_file():
        raise InvalidSettings(f"{setting}: there is no file where {variable} says that the database is")
    return scheme
