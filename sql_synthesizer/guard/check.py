"""The guard: a text in, one statement out that reads what may be seen, and no more rows than allowed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from quantum_db.errors import SqlRefused
from sql_synthesizer.engines.ports import Limits, Parameter
from sql_synthesizer.guard.binding import bound
from sql_synthesizer.guard.names import Catalogue
from sql_synthesizer.guard.parts import check_parts, is_volatile
from sql_synthesizer.guard.reading import Text, read
from sql_synthesizer.guard.resolving import Resolver
from sql_synthesizer.schema import Schema


@dataclass(frozen=True, slots=True)
class Checked:
    """A statement that may run.

    Attributes:
        sql: in the engine's dialect, with placeholders.
        parameters: what the placeholders stand for.
        tables: that it reads, by their names in the schema.
        columns: that it reads, as pairs of table and column.
        volatile: whether it may give other rows without a write, so that they cannot be kept.
        tree: the statement with its names resolved and its literals in place; ``bound`` makes ``sql`` of it.
    """

    sql: str
    parameters: tuple[Parameter, ...]
    tables: frozenset[str]
    columns: frozenset[tuple[str, str]]
    volatile: bool
    tree: exp.Query

    @property
    def key(self) -> str:
        """A digest, the same for texts that differ in spaces, comments, or in how names are written."""
        parts = repr((self.sql, self.parameters)).encode()
        return hashlib.blake2b(parts, digest_size=16).hexdigest()


class Guard:
    """Checks statements against one schema. Safe to call from many threads."""

    def __init__(self, schema: Schema) -> None:
        """Index the schema."""
        self._catalogue: Final = Catalogue(schema)

    def check(self, sql: str, limits: Limits | None = None) -> Checked:
        """Return the statement as it may run; it gives at most one row more than ``limits.max_rows``, as a sign.

        Raises:
            SqlInvalid: it cannot be read, or names what is not there, or what is hidden.
            SqlRefused: it does, or might do, more than read tables; the message says where.
        """
        text, dialect = Text(sql), self._catalogue.dialect
        tree = read(text, dialect)
        try:
            check_parts(text, tree, dialect)
            volatile = is_volatile(tree)
            resolver = Resolver(text, self._catalogue)
            resolver.statement(tree)
            _limit(text, tree, (limits or Limits()).max_rows + 1)
            written, parameters = bound(tree, dialect, copy=False)
        except RecursionError as error:
            raise SqlRefused.in_sql("the statement is nested too deeply") from error
        return Checked(written, parameters, frozenset(resolver.tables), frozenset(resolver.columns), volatile, tree)


def _limit(text: Text, tree: exp.Query, most: int) -> None:
    """Add a LIMIT, or lower the one that is there."""
    limit = tree.args.get("limit")
    if limit is None:
        tree.set("limit", exp.Limit(expression=exp.Literal.number(most)))
        return
    options = limit.args.get("limit_options")
    if options is not None and (options.args.get("percent") or options.args.get("with_ties")):
        raise text.refused("FETCH takes a number of rows here, without PERCENT and TIES", limit)
    count = limit.args.get("count" if isinstance(limit, exp.Fetch) else "expression")
    if not (isinstance(count, exp.Literal) and not count.is_string and count.name.isdigit()):
        raise text.refused("LIMIT must be a whole number", limit)
    tree.set("limit", exp.Limit(expression=exp.Literal.number(min(int(count.name), most))))
