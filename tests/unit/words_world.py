"""A small library's schema, as an engine would tell it, for the tests of words to SQL."""

from __future__ import annotations

from sql_synthesizer.schema import Column, ColumnKind, ForeignKey, Schema, Table

INTEGER, REAL, TEXT, DATE = ColumnKind.INTEGER, ColumnKind.REAL, ColumnKind.TEXT, ColumnKind.DATE


def column(name: str, kind: ColumnKind, values: tuple[str, ...] = (), *, nullable: bool = True) -> Column:
    return Column(name, kind, kind.value, nullable, distinct=len(values) or 6, nulls=None, values=values)


def table(name: str, *columns: Column, keys: tuple[ForeignKey, ...] = (), primary: str = "id") -> Table:
    return Table(name, {one.name: one for one in columns}, (primary,), keys, rows=6)


def library(dialect: str = "sqlite", *, declared: bool = True) -> Schema:
    """Writers, their books, readers, and loans of books by readers; readers may have a friend among the readers."""
    writers = table(
        "writer",
        column("id", INTEGER, nullable=False),
        column("name", TEXT, ("Ada Moor", "Ben Okri", "Cleo Ruiz")),
        column("country", TEXT, ("France", "Kenya", "Peru")),
        column("birth_year", INTEGER),
    )
    books = table(
        "book",
        column("id", INTEGER, nullable=False),
        column("title", TEXT, ("Dust", "Ember", "Fern", "Paris")),
        column("num_pages", INTEGER),
        column("price", REAL),
        column("published", DATE),
        column("writer_id", INTEGER),
        column("genre", TEXT, ("crime", "poetry")),
        keys=(ForeignKey(("writer_id",), "writer", ("id",)),) if declared else (),
    )
    readers = table(
        "reader",
        column("id", INTEGER, nullable=False),
        column("first_name", TEXT, ("Gil", "Hana")),
        column("last_name", TEXT, ("Ito", "Jansen")),
        column("city", TEXT, ("Lima", "Paris")),
        column("friend_id", INTEGER),
        column("is_member", ColumnKind.BOOLEAN),
        keys=(ForeignKey(("friend_id",), "reader", ("id",)),) if declared else (),
    )
    loans = table(
        "loan",
        column("id", INTEGER, nullable=False),
        column("book_id", INTEGER, nullable=False),
        column("reader_id", INTEGER, nullable=False),
        column("loan_date", DATE),
        keys=(ForeignKey(("book_id",), "book", ("id",)), ForeignKey(("reader_id",), "reader", ("id",)))
        if declared
        else (),
    )
    tables = {one.name: one for one in sorted((writers, books, readers, loans), key=lambda one: one.name)}
    return Schema(dialect, tables, "1")
