"""From a database URL to an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from quantum_db.errors import InvalidSettings
from sql_synthesizer.engines.duckdb import DuckDbEngine
from sql_synthesizer.engines.ports import Engine
from sql_synthesizer.engines.postgres import PostgresEngine
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.engines.sqlite import SqliteEngine

WANTED: Final = "duckdb:///path, sqlite:///path or postgresql://user:password@host/database"


def open_engine(url: str, reflection: Reflection | None = None) -> Engine:
    """Return the engine of a URL.

    Args:
        url: ``duckdb:///shop.duckdb`` and ``sqlite:///shop.sqlite`` are relative to the working directory; with four
            slashes the path is absolute. ``postgresql://`` and ``postgres://`` are as libpq reads them.
        reflection: how its schema is read, and what of it is hidden.

    Raises:
        InvalidSettings: the URL is of no known kind, there is no such file, or the role may do too much.
        Unavailable: the database cannot be opened.
    """
    scheme, reflection = url.partition(":")[0].lower(), reflection or Reflection()
    if scheme in ("postgresql", "postgres"):
        return PostgresEngine(url, reflection=reflection)
    if scheme not in ("duckdb", "sqlite"):
        raise InvalidSettings(f"the database URL begins with {scheme!r}: it must be {WANTED}")
    path = _path(url)
    if scheme == "duckdb":
        return DuckDbEngine(path, reflection=reflection)
    return SqliteEngine(path, reflection=reflection)


def _path(url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or not path or path == ":memory:" or parts.query:
        raise InvalidSettings(f"the database URL {url!r} names no file: it must be {WANTED}")
    return Path(path)
