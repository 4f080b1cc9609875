"""The peer of ``benchmarks.sql_words``: one pass over the words, names and values as they stand, and one template."""

from __future__ import annotations

import re

from sqlglot import exp

from sql_synthesizer.schema import Schema, Table


class OnePassLinker:
    """Takes words for the names and values that they equal, joins by the declared keys, and knows only "how many"."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def read(self, question: str) -> str:
        words = re.findall(r"\w+", question.lower())
        phrases = {" ".join(words[a:b]) for a in range(len(words)) for b in range(a + 1, min(a + 5, len(words) + 1))}
        phrases |= {phrase.removesuffix("s") for phrase in phrases}
        named = [table for table in self._schema.tables.values() if _spoken(table.name) in phrases]
        columns, conditions = [], []
        for table in named or self._schema.tables.values():
            for column in table.columns.values():
                held = next((value for value in column.values if value.lower() in phrases), None)
                if held is not None:
                    conditions.append((table, column.name, held))
                elif _spoken(column.name) in phrases:
                    columns.append((table, column.name))
        if not named and not columns and not conditions:
            return ""
        return self._template(named, columns[:3], conditions[:2], counted="how many" in question.lower())

    def _template(
        self,
        named: list[Table],
        columns: list[tuple[Table, str]],
        conditions: list[tuple[Table, str, str]],
        *,
        counted: bool,
    ) -> str:
        tables = list(
            dict.fromkeys([t.name for t in named] + [t.name for t, _ in columns] + [t.name for t, *_ in conditions])
        )
        first = self._schema.tables[tables[0]]
        shown = columns or [(first, next((n for n in first.columns if "name" in n.lower()), next(iter(first.columns))))]
        select = exp.select(exp.Count(this=exp.Star())) if counted else exp.select(
            *(exp.column(name, table.name, quoted=True) for table, name in shown)
        )  # fmt: skip
        select = select.from_(exp.to_identifier(tables[0], quoted=True))
        joined = [first]
        for name in tables[1:]:
            table = self._schema.tables[name]
            key = _key(table, joined)
            if key is None:
                return ""
            select = select.join(exp.to_identifier(name, quoted=True), on=key)
            joined.append(table)
        for table, name, value in conditions:
            select = select.where(exp.column(name, table.name, quoted=True).eq(value))
        return select.sql("sqlite")


def _spoken(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower().removesuffix("s")


def _key(table: Table, joined: list[Table]) -> exp.Expr | None:
    for other in joined:
        for one, two in ((table, other), (other, table)):
            for key in one.foreign_keys:
                if key.table == two.name:
                    mine = exp.column(key.columns[0], one.name, quoted=True)
                    return mine.eq(exp.column(key.references[0], two.name, quoted=True))
    return None
