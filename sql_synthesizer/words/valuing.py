"""Reading stored values, patterns of letters, and columns that say yes or no."""

from __future__ import annotations

import re

from sql_synthesizer.schema import ColumnKind
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import (
    ColumnRef,
    Condition,
    Phrase,
    Statistic,
    Target,
)
from sql_synthesizer.words.state import State, truth_column
from sql_synthesizer.words.values import StoredValue


def at(table: str, column: str) -> ColumnRef:
    """Return the column where a value is stored."""
    return ColumnRef(table, column)


def same(state: State) -> None:
    """Read "in the same city as Lazio"."""
    item, other = state.item(1), state.item(2)
    if item is None or other is None or not item.columns or not other.values:
        return
    ref = state.column(item)
    stored = state.value(other.values)
    if ref is None:
        return
    state.at += 2
    inner = Phrase(stored.table, [[Condition(ColumnRef(stored.table, stored.column), "=", stored.value)]])
    state.add(Condition(ref, "in", Statistic(Target(ref), inner)))
    state.link(
        other, "value", f"{stored.table}.{stored.column} = {stored.value}", "compared with that row", stored.score
    )


def pattern(state: State, word: str) -> None:
    """Read what a text starts with, ends with or contains."""
    item = state.item(1)
    if item is None or not (item.literal or item.values or item.unknown or item.names or item.number is not None):
        return
    state.at += 1
    ref = state.last or state.shapes.display(state.current.table)[0]
    text = re.sub(r"([%_])", r"\1", item.text)
    shapes = {"prefix": f"{text}%", "suffix": f"%{text}", "contains": f"%{text}%"}
    negated = state.negated
    state.negated = False
    state.add(Condition(ref, "like", shapes[word], negated=negated))
    state.link(item, "value", f"{ref.table}.{ref.column} {word} {text}", "a pattern of letters", 0.9)


def missing(state: State) -> None:
    """Read that a column has no value."""
    if state.last is not None:
        state.add(Condition(state.last, "null", None))


def stored(state: State, item: Item) -> None:
    """Read a value that some column holds."""
    candidates = list(item.values)
    beside = [v for v in candidates if at(v.table, v.column) == state.last]
    if state.last is not None and not beside:
        beside = [v for v in candidates if v.column == state.last.column]
    if not beside:
        beside = _after(state, item)
    chosen = state.value(beside or candidates)
    ref = at(chosen.table, chosen.column)
    why = "stored in that column" if chosen.score >= 0.95 else "like a stored value"
    state.link(item, "value", f"{ref.table}.{ref.column} = {chosen.value}", why, chosen.score)
    key = referred(state, ref.table)
    if key is not None and state.last is not None and state.last != ref:
        inner = Phrase(ref.table)
        state.add(Condition(state.last, "in", Statistic(Target(ColumnRef(ref.table, key)), inner)))
        state.open.append(inner)
    same = {v.value for v in candidates if at(v.table, v.column) == ref}
    if chosen.part and len(same) > 1:
        state.add(Condition(ref, "like", f"%{item.text}%"))
    else:
        state.add(Condition(ref, "=", chosen.value))


def referred(state: State, table: str) -> str | None:
    """Return the column of a table to which the column that waits refers, if it does."""
    if state.last is None or state.at - state.last_item > 2:
        return None
    for step in state.graph.steps(state.last.table):
        if step.target == table and step.source_columns == (state.last.column,):
            return step.target_columns[0]
    return None


def _after(state: State, item: Item) -> list[StoredValue]:
    """Return the values whose column or table the next words say ("Rock genre", "mississippi river")."""
    ahead = state.item(1)
    if ahead is None or not ahead.names:
        return []
    said = {(name.table, name.column) for name, score in ahead.names if score >= 0.7}
    by_column = [v for v in item.values if (v.table, v.column) in said]
    by_table = [v for v in item.values if (v.table, None) in said]
    found = by_column or by_table
    if by_column and (ahead.table is None or ahead.table[0].table != state.query.phrase.table):
        state.at += 1
    return found


def literal(state: State, item: Item) -> None:
    """Read a name in quotes or capitals that no kept value is like."""
    ref = state.last
    if ref is None:
        display = state.shapes.display(state.current.table)
        ref = next((r for r in display if state.shapes.column(r).kind is ColumnKind.TEXT), None)
        if not item.quoted:
            state.doubts.append("literal")
    if ref is not None:
        state.add(Condition(ref, "=", item.literal))
        state.link(item, "value", f"{ref.table}.{ref.column} = {item.literal}", "taken as written", 0.6)


def truth(state: State, ref: ColumnRef) -> bool:
    """Read a column that says yes or no as a condition; whether it was one."""
    if not truth_column(state, ref):
        return False
    told = not state.negated
    state.negated = False
    state.add(Condition(ref, "=", told))
    return True
