"""The calls about SQL databases on decoded JSON: who may use which, and within which bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from quantum_db.errors import InvalidRequest, NotFound
from quantum_db.near import near_name
from quantum_db.requests import parse
from quantum_db.scope import DEFAULT_SCOPE, Scope
from quantum_db.sql_bodies import SqlBatchBody, SqlExplainBody, SqlQueryBody, SqlSchemaBody

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SqlDatabase:
    """What the administrator allows with a database.

    Attributes:
        tenants: who may use it; None for all.
        max_rows: of an answer at most, and where a request says nothing.
        timeout_s: the same, for the time that a request takes.
    """

    tenants: frozenset[str] | None = None
    max_rows: int = 1_000
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class SqlOrder:
    """A request as the workers take it.

    Attributes:
        texts: questions or statements: one, or those of a batch.
        only_sql: whether the text is SQL, whatever it begins with.
        optimize: whether joins may be run in an order of our own.
    """

    database: str
    texts: Sequence[str]
    only_sql: bool
    max_rows: int
    timeout_s: float
    optimize: bool = True


class SqlDesk(Protocol):
    """Who runs statements."""

    async def query(self, order: SqlOrder) -> Json:
        """Answer one text. Raises what ``QuantumSQLSynthesizer.query`` does, and Overloaded."""

    async def explain(self, order: SqlOrder) -> Json:
        """Tell what would be run. Raises as ``query`` does."""

    async def batch(self, order: SqlOrder) -> Json:
        """Answer several texts. Raises as ``query`` does, for the first text that cannot be read."""

    async def schema(self, order: SqlOrder) -> Json:
        """Return what may be seen of the database. Raises as ``query`` does."""


class SqlCalls:
    """JSON in, JSON out."""

    def __init__(self, databases: Mapping[str, SqlDatabase], desk: SqlDesk | None) -> None:
        """Take the databases by name. Without any, no desk is needed."""
        assert desk is not None or not databases, "whoever has databases has workers for them"
        self._databases = databases
        self._desk = desk

    async def query(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Answer a question or a statement (``SqlQueryBody``)."""
        body = parse(SqlQueryBody, raw)
        return await self._of(scope, body.database).query(self._order(body, (body.text,), body.sql is not None))

    async def explain(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Tell what would be run for a question or a statement (``SqlExplainBody``)."""
        body = parse(SqlExplainBody, raw)
        return await self._of(scope, body.database).explain(self._order(body, (body.text,), body.sql is not None))

    async def batch(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Answer questions and statements (``SqlBatchBody``), what they share computed once where that pays."""
        body = parse(SqlBatchBody, raw)
        return await self._of(scope, body.database).batch(self._order(body, body.statements, only_sql=False))

    async def schema(self, raw: object, scope: Scope = DEFAULT_SCOPE) -> Json:
        """Return what may be seen of a database (``SqlSchemaBody``)."""
        name = parse(SqlSchemaBody, raw).database
        desk, allowed = self._of(scope, name), self._databases[name]
        return await desk.schema(SqlOrder(name, (), only_sql=False, max_rows=1, timeout_s=allowed.timeout_s))

    def _of(self, scope: Scope, name: str) -> SqlDesk:
        """Return who runs statements of a database. One that the tenant may not use is not there for it."""
        own = [
            one
            for one, allowed in self._databases.items()
            if allowed.tenants is None or scope.tenant in allowed.tenants
        ]
        if name not in own or self._desk is None:
            raise NotFound(f"there is no database {name!r}{near_name(name, own)}")
        return self._desk

    def _order(
        self, body: SqlQueryBody | SqlExplainBody | SqlBatchBody, texts: Sequence[str], only_sql: bool
    ) -> SqlOrder:
        allowed = self._databases[body.database]
        if body.max_rows is not None and body.max_rows > allowed.max_rows:
            raise InvalidRequest.at("max_rows", f"must be at most {allowed.max_rows}, which this database allows")
        timeout_s = allowed.timeout_s if body.timeout_ms is None else body.timeout_ms / 1000.0
        if timeout_s > allowed.timeout_s:
            most_ms = int(1000 * allowed.timeout_s)
            raise InvalidRequest.at("timeout_ms", f"must be at most {most_ms}, which this database allows")
        return SqlOrder(body.database, texts, only_sql, body.max_rows or allowed.max_rows, timeout_s, body.optimize)


NO_DATABASES: Final = SqlCalls({}, None)
