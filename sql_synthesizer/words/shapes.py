"""What tables look like to a reader: by which columns a row is called, what is a measure, what a date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sql_synthesizer.schema import Column, ColumnKind, Schema, Table
from sql_synthesizer.words.names import parts
from sql_synthesizer.words.query import ColumnRef
from sql_synthesizer.words.thesaurus import NEAR
from sql_synthesizer.words.tokens import stem

NUMBERS: Final = frozenset({ColumnKind.INTEGER, ColumnKind.REAL})
DATES: Final = frozenset({ColumnKind.DATE, ColumnKind.TIMESTAMP})
_CALLED: Final = ("name", "title", "fullname", "label", "username")


class Shapes:
    """Answers about the tables of one schema."""

    def __init__(self, schema: Schema) -> None:
        """Keep the schema."""
        self.schema = schema
        self._displays: dict[str, tuple[ColumnRef, ...]] = {}

    def column(self, ref: ColumnRef) -> Column:
        """Return the column's description."""
        return self.schema.tables[ref.table].columns[ref.column]

    def words(self, ref: ColumnRef) -> set[str]:
        """Return the stems of a column's name."""
        return {stem(word) for word in parts(ref.column)}

    def key(self, table: str) -> tuple[ColumnRef, ...]:
        """Return the primary key, or what serves as one."""
        described = self.schema.tables[table]
        if described.primary_key:
            return tuple(ColumnRef(table, name) for name in described.primary_key)
        ids = [name for name in described.columns if parts(name)[-1:] == ["id"]]
        own = {stem(word) for word in parts(table)}
        named = [name for name in ids if {stem(w) for w in parts(name)} - {"id"} <= own]
        return tuple(ColumnRef(table, name) for name in (named or ids)[:1])

    def display(self, table: str) -> tuple[ColumnRef, ...]:
        """Return the columns by which people call a row: its name or title, first and last name, or its key."""
        known = self._displays.get(table)
        if known is None:
            known = self._displays[table] = self._display(table)
        return known

    def _display(self, table: str) -> tuple[ColumnRef, ...]:
        described = self.schema.tables[table]
        words = {name: parts(name) for name in described.columns}
        first = [n for n, w in words.items() if w[-2:] in (["first", "name"], ["given", "name"])]
        last = [n for n, w in words.items() if w[-2:] in (["last", "name"], ["family", "name"])]
        named = self._named(described, words)
        if first and last and (named is None or words[named][-1] != "name" or named in (*first, *last)):
            return ColumnRef(table, first[0]), ColumnRef(table, last[0])
        if named is not None:
            return (ColumnRef(table, named),)
        texts = [c for c in described.columns.values() if c.kind is ColumnKind.TEXT and parts(c.name)[-1:] != ["id"]]
        if texts and not self.schema.tables[table].foreign_keys:
            ranked = max(texts, key=lambda c: c.distinct or 0)
            if (ranked.distinct or 0) >= 0.9 * (described.rows or 1):
                return (ColumnRef(table, texts[0].name if texts[0].distinct == ranked.distinct else ranked.name),)
        return self.key(table)[:1] or (ColumnRef(table, next(iter(described.columns))),)

    def _named(self, table: Table, words: dict[str, list[str]]) -> str | None:
        own = {stem(word) for word in parts(table.name)}
        texts = {n: w for n, w in words.items() if table.columns[n].kind in {ColumnKind.TEXT, ColumnKind.OTHER} and w}
        for last in _CALLED:
            for name, said in texts.items():
                if said[-1] == last and {stem(w) for w in said[:-1]} <= own:
                    return name
        for name, said in texts.items():
            if {stem(w) for w in said} <= own:
                return name
        ending = [name for name, said in texts.items() if said[-1] == "name" and said[0] not in {"first", "last"}]
        return ending[0] if len(ending) == 1 else None

    def tells_apart(self, ref: ColumnRef) -> bool:
        """Whether (nearly) every row has a value of its own in the column."""
        rows = self.schema.tables[ref.table].rows
        return not rows or (self.column(ref).distinct or 0) >= 0.7 * rows

    def with_words(self, table: str, words: Sequence[str]) -> list[ColumnRef]:
        """Return the columns of a table whose names have one of some stems, in the order of the stems."""
        refs = [ColumnRef(table, name) for name in self.schema.tables[table].columns]
        return [ref for word in words for ref in refs if stem(word) in self.words(ref)]

    def dates(self, table: str) -> list[ColumnRef]:
        """Return the columns that say when: dates first, then years."""
        columns = self.schema.tables[table].columns.values()
        dated = [c for c in columns if c.kind in DATES or (c.kind is ColumnKind.TEXT and self._date_text(c))]
        years = [c for c in columns if c not in dated and "year" in parts(c.name) and c.kind is not ColumnKind.BOOLEAN]
        return [ColumnRef(table, c.name) for c in (*years, *dated)]

    def _date_text(self, column: Column) -> bool:
        return "date" in parts(column.name) or any(
            len(v) >= 8 and v[:4].isdigit() and v[4] == "-" for v in column.values[:1]
        )

    def is_date(self, ref: ColumnRef) -> bool:
        """Whether a column holds dates, not only years."""
        column = self.column(ref)
        return column.kind in DATES or (column.kind is ColumnKind.TEXT and self._date_text(column))

    def numbers(self, table: str) -> list[ColumnRef]:
        """Return the columns that measure something: numbers that are no key."""
        described = self.schema.tables[table]
        keys = set(described.primary_key) | {name for key in described.foreign_keys for name in key.columns}
        return [
            ColumnRef(table, c.name)
            for c in described.columns.values()
            if c.name not in keys and self.measures(c)
        ]  # fmt: skip

    def measures(self, column: Column) -> bool:
        """Whether a column holds numbers that mean an amount; text of numbers alone counts."""
        if parts(column.name)[-1:] in (["id"], ["code"]):
            return False
        if column.kind in NUMBERS:
            return True
        return column.kind is ColumnKind.TEXT and bool(column.values) and all(map(_number, column.values))

    def hinted(self, hints: Sequence[str], tables: Iterable[str]) -> tuple[ColumnRef, bool] | None:
        """Return the column that a word like "oldest" speaks of, and whether its order is the other way round."""
        for table in tables:
            for hint in hints:
                word = stem(hint.removeprefix("~"))
                found = self._with_word(table, word)
                if found is not None:
                    return found, hint.startswith("~")
        return None

    def _with_word(self, table: str, word: str) -> ColumnRef | None:
        near = NEAR.get(word, frozenset())
        dated = word in {"dat", "year", "tim", "birth", "birthday", "found", "start", "day"}
        able = [*self.dates(table), *self.numbers(table)] if dated else self.numbers(table)
        exact = [ref for ref in able if word in self.words(ref)]
        likely = [] if dated else [ref for ref in able if near & self.words(ref)]
        return next(iter((*exact, *likely)), None)


def _number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace(",", "").isdigit()
