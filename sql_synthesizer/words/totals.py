"""Reading amounts that are added up: of facts that no column is called by, and of rows on the many side of a key."""

from __future__ import annotations

from typing import Final

from sql_synthesizer.words import money
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import ColumnRef, Ranking, Target
from sql_synthesizer.words.roles import Role
from sql_synthesizer.words.roots import says_table
from sql_synthesizer.words.state import State
from sql_synthesizer.words.tokens import singular

FIRST_ROWS: Final = 10
"""How many rows "top" means without a number."""


def measured(state: State, item: Item, target: Target) -> None:
    """Read "revenue", "spent": as what rows are ranked by, compared by, or what is shown."""
    ahead = state.item(1)
    if ahead is not None and ahead.is_(Role.SUPERLATIVE) and not _named_after(state) and ahead.op is not None:
        state.at += 1
        rank_by(state, item, target, ahead.op.descending)
        return
    explain(state, item, target)
    functions = [function for function in state.functions if function != "sum"]
    if state.counting:
        state.asked = (
            state.asked or f'Should the rows of {target.home} be counted, or is the sum of "{item.text}" meant?'
        )
    state.functions, state.counting = [], ""
    if functions:
        state.asked = state.asked or (
            f'By the {functions[0]} of "{item.text}", are single rows of {target.home} meant, or sums of them?'
        )
    if state.negated:
        state.asked = (
            state.asked or f'What should rows without "{item.text}" be: those without any row of {target.home}?'
        )
    if state.query.phrase.table == target.home:
        _shown(state, target)
    elif ahead is not None and ahead.is_(Role.COMPARE):
        state.measured = target
    elif state.next_is(Role.AND, Role.THEIR, Role.ALSO, ahead=-1):
        for ref in state.shapes.display(state.query.phrase.table):
            state.target(Target(ref))
        state.target(target)
    else:
        state.query.order.append((target, True))


def _named_after(state: State) -> bool:
    after = state.item(2)
    return after is not None and bool(after.names)


def _shown(state: State, target: Target) -> None:
    """Show a sum of all rows, for each of what it is listed with ("customers and their revenue")."""
    if state.next_is(Role.AND, Role.THEIR, Role.ALSO, ahead=-1):
        state.query.group_tables += [phrase.table for phrase in state.open[1:] if not phrase.clauses]
    state.target(target)


def rank_by(state: State, item: Item, target: Target, descending: bool) -> None:
    """Read "the highest revenue", "spent the most"."""
    explain(state, item, target)
    query = state.query
    if query.phrase.table == target.home and not (query.targets or query.groups or query.group_tables):
        state.asked = state.asked or f'Which rows should be ranked by "{item.text}"?'
    query.phrase.ranking = Ranking(target, descending, state.limit or 1)
    state.limit, state.top, state.functions = None, None, []


def explain(state: State, item: Item, target: Target) -> None:
    """Tell what is added up."""
    state.link(item, "rule", money.what(target), f"the amounts of {target.home}, as no column is called so", 0.85)


def of_many(state: State, item: Item, ref: ColumnRef) -> Target:
    """Return what rows are ordered by: a column, added up where each of them may have many rows of its table."""
    root = state.query.phrase.table
    if ref.table == root or not state.said or any(target.home != root for target in state.query.targets):
        return Target(ref)
    way = state.graph.path((root,), ref.table) or []
    if all(step.to_one for step in way) or not state.shapes.measures(state.shapes.column(ref)):
        return Target(ref)
    if not money.additive(state.shapes, ref):
        state.asked = state.asked or (
            f'By "{item.text}", is the sum, the average or the highest {ref.table}.{ref.column} of each {root} meant?'
        )
    target = Target(ref, "sum")
    state.link(item, "rule", money.what(target), f"a row of {root} may have many rows of {ref.table}", 0.9)
    return target


def ranked_later(state: State, ahead: Item) -> bool:
    """Whether "by ..." tells by what the rows are best."""
    after = state.item(2)
    return says_table(ahead) is not None and after is not None and after.text.lower() in {"by", "in terms of"}


def ask_by_what(state: State, item: Item | None = None) -> None:
    """Ask for what a ranking needs."""
    word = f'are meant by "{item.text}"' if item is not None else "come first"
    state.asked = state.asked or f"By what should it be told which rows of {state.query.phrase.table} {word}?"


def order_by(state: State, item: Item, descending: bool) -> None:
    """Read "sorted by revenue", or "sorted by the number": the last one that is shown."""
    shown = [target for target in state.query.targets if target.aggregated]
    if item.measure is not None:
        explain(state, item, item.measure)
        state.query.order.append((item.measure, descending))
    elif shown:
        state.query.order.append((shown[-1], descending))
    else:
        state.asked = state.asked or f'Which "{item.text}" should the rows be sorted by?'


def some_rows(state: State, item: Item, ahead: Item) -> None:
    """Read "top customers" without a number: the first ten, or one where the noun is singular."""
    if state.limit is not None:
        return
    if says_table(ahead) is None and not _text_column(state, ahead):
        return
    last = ahead.text.lower().split()[-1]
    state.limit = FIRST_ROWS if singular(last) != last else 1
    state.link(item, "rule", f"LIMIT {state.limit}", "no number is said", 0.9)


def _text_column(state: State, item: Item) -> bool:
    refs = [ColumnRef(name.table, name.column) for name, _ in item.columns[:1] if name.column is not None]
    return any(not state.shapes.measures(state.shapes.column(ref)) for ref in refs)
