"""From a text to the tree of one statement, and to the places of its parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, ParseError, SqlglotError

from quantum_db.errors import SqlInvalid, SqlRefused

MAX_CHARACTERS: Final = 100_000
MAX_DEPTH: Final = 100
"""Of brackets within each other."""

logging.getLogger("sqlglot").addFilter(lambda record: "unsupported syntax" not in record.getMessage())
"""What sqlglot cannot read it takes as a command, with a warning; the guard refuses it, with a reason."""


@dataclass(frozen=True, slots=True)
class Text:
    """A statement as it came in."""

    sql: str

    def refused(self, message: str, part: exp.Expr | None = None) -> SqlRefused:
        """Return the error for a part that is not allowed, with its place."""
        return SqlRefused.in_sql(message, *self.place(part))

    def invalid(self, message: str, part: exp.Expr | None = None) -> SqlInvalid:
        """Return the error for a part that means nothing, with its place."""
        return SqlInvalid.in_sql(message, *self.place(part))

    def place(self, part: exp.Expr | None) -> tuple[int | None, int | None]:
        """Return line and column of a part, from 1; of what is around it, where its own are not known."""
        while part is not None:
            starts = [node.meta["start"] for node in part.walk() if "start" in node.meta]
            if starts:
                return self._line_and_column(min(starts))
            part = part.parent
        return None, None

    def start(self) -> tuple[int, int]:
        """Return line and column of the beginning."""
        return self._line_and_column(len(self.sql) - len(self.sql.lstrip()))

    def _line_and_column(self, offset: int) -> tuple[int, int]:
        before = self.sql[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def read(text: Text, dialect: str) -> exp.Query:
    """Return the tree of the one query that a text holds.

    Raises:
        SqlInvalid: it cannot be read.
        SqlRefused: it is longer or deeper than allowed, there is more than one statement, or it is not a query.
    """
    if len(text.sql) > MAX_CHARACTERS:
        raise SqlRefused.in_sql(f"the statement has {len(text.sql)} characters, and {MAX_CHARACTERS} are allowed")
    if "\x00" in text.sql:
        raise SqlInvalid.in_sql("the statement has a character of code 0")
    if depth_of(text.sql) > MAX_DEPTH:
        raise SqlRefused.in_sql(f"brackets are within each other more than {MAX_DEPTH} times")
    statements = [one for one in _parse(text.sql, dialect) if one is not None and not isinstance(one, exp.Semicolon)]
    if not statements:
        raise SqlInvalid.in_sql("there is no statement")
    if len(statements) > 1:
        raise text.refused(f"there are {len(statements)} statements, where one may run at a time", statements[1])
    root = statements[0]
    if not isinstance(root, exp.Select | exp.SetOperation | exp.Subquery):
        message = f"a statement of kind {_kind(root)} is not allowed: only SELECT is"
        raise SqlRefused.in_sql(message, *text.start())
    return root


def _parse(sql: str, dialect: str) -> list[Any]:
    try:
        return list(sqlglot.parse(sql, read=dialect, error_level=ErrorLevel.IMMEDIATE))
    except ParseError as error:
        told = error.errors[0] if error.errors else {}
        message = f"the statement cannot be read: {told.get('description') or 'it is no SQL'}"
        raise SqlInvalid.in_sql(message, told.get("line"), told.get("col")) from error
    except SqlglotError as error:
        raise SqlInvalid.in_sql(f"the statement cannot be read: {str(error).partition(chr(10))[0]}") from error
    except RecursionError as error:
        raise SqlRefused.in_sql("the statement is nested too deeply") from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        # Of some texts that are no SQL the parser makes an error of its own.
        raise SqlInvalid.in_sql("the statement cannot be read") from error


def depth_of(sql: str) -> int:
    """Return how deep brackets are at most; those in text count too, which only makes it stricter."""
    depth = deepest = 0
    for character in sql:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


def _kind(root: exp.Expr) -> str:
    name = root.this if isinstance(root, exp.Command) else root.key
    return str(name).upper()
