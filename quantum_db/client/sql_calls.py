"""The calls about SQL databases. They are about those that the tenant may use, whichever the collection is."""

from __future__ import annotations

from collections.abc import Sequence

from quantum_db.client.calls import Calls
from quantum_db.client.loop import blocking
from quantum_db.client.results import Json


class SqlCalls(Calls):
    """Questions to SQL databases. Answers are those of the REST API."""

    async def sql_query(
        self,
        database: str,
        question: str | None = None,
        *,
        sql: str | None = None,
        max_rows: int | None = None,
        timeout_ms: int | None = None,
        optimize: bool = True,
    ) -> Json:
        """Answer a question in words, or run a statement that reads (``sql``).

        Raises:
            NotFound: there is no such database for the tenant.
            UnclearQuestion, AmbiguousQuestion, SqlInvalid, SqlRefused: the text is not answered, and why.
            SqlTimeout, DeadlineExceeded: it took too long.
        """
        bounds = {"max_rows": max_rows, "timeout_ms": timeout_ms, "optimize": optimize}
        answer: Json = await self.call("sql.query", {"database": database, "question": question, "sql": sql, **bounds})
        return answer

    async def sql_explain(self, database: str, question: str | None = None, *, sql: str | None = None) -> Json:
        """Return what would be run. Raises as ``sql_query`` does."""
        answer: Json = await self.call("sql.explain", {"database": database, "question": question, "sql": sql})
        return answer

    async def sql_schema(self, database: str) -> Json:
        """Return what may be seen of a database. Raises NotFound."""
        answer: Json = await self.call("sql.schema", {"database": database})
        return answer

    async def sql_batch(
        self,
        database: str,
        statements: Sequence[str],
        *,
        max_rows: int | None = None,
        timeout_ms: int | None = None,
        optimize: bool = True,
    ) -> Json:
        """Answer questions and statements together; ``items`` tells of each its rows, or its problem.

        Raises as ``sql_query`` does, for the first text that cannot be read.
        """
        bounds = {"max_rows": max_rows, "timeout_ms": timeout_ms, "optimize": optimize}
        answer: Json = await self.call("sql.batch", {"database": database, "statements": list(statements), **bounds})
        return answer

    sql_query_sync = blocking(sql_query)
    sql_explain_sync = blocking(sql_explain)
    sql_schema_sync = blocking(sql_schema)
    sql_batch_sync = blocking(sql_batch)
