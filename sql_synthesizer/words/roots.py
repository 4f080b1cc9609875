"""Which table's rows a question is about."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sql_synthesizer.words.keys import FAR, KeyGraph
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import ColumnRef
from sql_synthesizer.words.roles import Role
from sql_synthesizer.words.shapes import Shapes


def says_table(item: Item) -> str | None:
    """Return the table that an item says rather than a column."""
    if item.table is None:
        return None
    name, score = item.table
    if item.columns and item.columns[0][1] > score + 0.02:
        return None
    return name.table if score >= 0.7 else None


def named_exactly(item: Item) -> str | None:
    """Return the table that an item says by its very name."""
    table = says_table(item)
    return table if item.table is not None and item.table[1] >= 0.95 else None


def root_of(items: Sequence[Item], shapes: Shapes, graph: KeyGraph) -> str | None:
    """Return the table whose rows the question is about; None where nothing tells."""
    mentions = [(at, table) for at, item in enumerate(items) if (table := says_table(item)) is not None]
    mentions = _connected(mentions, graph)
    free = [(at, table) for at, table in mentions if not _grouping(items, at)]
    counted = _counted(items, free)
    if counted is not None:
        return counted
    if free:
        first, table = free[0]
        return _of_column(items, first, {t for _, t in free}) or table
    return _by_scores(items, shapes) or (mentions[0][1] if mentions else None)


def _connected(mentions: list[tuple[int, str]], graph: KeyGraph) -> list[tuple[int, str]]:
    """Leave out the tables that cannot be joined with most of the others."""
    tables = {table for _, table in mentions}
    if len(tables) < 3:
        return mentions
    met = {table: sum(graph.distance(table, other) < FAR for other in tables) for table in tables}
    return [(at, table) for at, table in mentions if met[table] * 2 > len(tables)]


def _grouping(items: Sequence[Item], at: int) -> bool:
    after = items[at + 1] if at + 1 < len(items) else None
    if after is not None and after.start == items[at].end and named_exactly(after) is not None:
        return True
    return at > 0 and items[at - 1].is_(Role.EACH)


def _counted(items: Sequence[Item], mentions: Sequence[tuple[int, str]]) -> str | None:
    """Return the table whose rows are counted, where the question starts with that."""
    for at, table in mentions:
        before = [item for item in items[:at] if not item.is_(Role.DISTINCT, Role.ASK)]
        if before and before[-1].is_(Role.COUNT) and not any(item.names for item in _ungrouped(before)):
            return table
    return None


def _ungrouped(items: Sequence[Item]) -> list[Item]:
    return [item for at, item in enumerate(items) if not (at > 0 and items[at - 1].is_(Role.EACH))]


def _of_column(items: Sequence[Item], first: int, tables: set[str]) -> str | None:
    """Return the table of a column that is named with its table before any other table is."""
    for item in items[:first]:
        if item.columns and item.columns[0][1] >= 0.99 and len(item.text.split()) > 1:
            homes = {name.table for name, score in item.columns if score >= 0.99}
            if len(homes) == 1 and not homes & tables:
                return None
    return None


def _by_scores(items: Sequence[Item], shapes: Shapes) -> str | None:
    """Return the table whose columns and values say most of the question."""
    worth: dict[str, float] = defaultdict(float)
    for item in items:
        best: dict[str, float] = {}
        for name, score in item.names:
            best[name.table] = max(best.get(name.table, 0.0), score if name.column else score * 1.2)
        for stored in item.values:
            ref = ColumnRef(stored.table, stored.column)
            own = ref in shapes.display(stored.table) and shapes.tells_apart(ref)
            score = stored.score * (0.9 if own else 0.6)
            best[stored.table] = max(best.get(stored.table, 0.0), score)
        if item.is_(Role.HOW, Role.SUPERLATIVE) and item.op is not None:
            for table in shapes.schema.tables:
                if shapes.hinted(item.op.hints, [table]) or shapes.with_words(table, item.op.hints):
                    best[table] = 0.8
        for table, score in best.items():
            worth[table] += score
    if not worth:
        return None
    return max(sorted(worth), key=lambda table: (round(worth[table], 3), shapes.schema.tables[table].rows or 0))
