"""Reading superlatives: by which order the first rows are wanted."""

from __future__ import annotations

from typing import Final

from sql_synthesizer.words import totals
from sql_synthesizer.words.lexicon import PHRASES
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import ColumnRef, Member, Phrase, Ranking, Target
from sql_synthesizer.words.roles import Op, Role
from sql_synthesizer.words.roots import named_exactly, says_table
from sql_synthesizer.words.state import State

_EXTREMES: Final = {
    "high",
    "low",
    "great",
    "large",
    "small",
    "big",
    "most",
    "least",
    "long",
    "short",
    "early",
    "late",
    "old",
    "last",
    "first",
}


_VAGUE: Final = {"good", "bad", "great", "high", "low", "big", "large", "small"}


def superlative(state: State, item: Item, op: Op) -> None:
    """Read "the youngest singer", "the highest price", "most albums"."""
    ahead = state.item(1)
    if ahead is not None and ahead.number is not None and not ahead.names:
        state.limit = int(ahead.number)
        state.at += 1
        ahead = state.item(1)
    after = state.item(2)
    if ahead is not None and after is not None and ahead.columns and ahead.table is None and _describes(ahead, after):
        state.at += 1
        ahead = after
    if ahead is not None and ahead.measure is not None:
        state.at += 1
        totals.rank_by(state, ahead, ahead.measure, op.descending)
    elif ahead is not None and op.word in _VAGUE and totals.ranked_later(state, ahead):
        totals.some_rows(state, item, ahead)
        state.top = op.descending
    elif ahead is None or not ahead.names:
        _without_name(state, item, op)
    elif not _with_name(state, item, ahead, op):
        _by_hint(state, item, op, state.current)


def _with_name(state: State, item: Item, ahead: Item, op: Op) -> bool:
    """Read a superlative by the name that follows; whether the name told the order."""
    table = says_table(ahead)
    measured = _measure(state, ahead) if ahead.columns and (table is None or not op.hints) else None
    if measured is not None:
        state.at += 1
        _by_column(state, op, measured)
        return True
    if table is not None:
        if not _by_doing(state, ahead, op, table):
            state.at += 1
            state.link(ahead, "table", table, "the name", ahead.table[1] if ahead.table else 0.9)
            _by_table(state, item, op, table)
        return True
    ref = state.column(ahead) if op.word in {"most", "least"} else None
    if ref is None:
        return False
    state.at += 1
    rank(state, state.current, Target(ref, "count"), op.descending)
    return True


def _without_name(state: State, item: Item, op: Op) -> None:
    """Read a superlative that no name follows: "the highest average ...", "was founded earliest", "is longest"."""
    ahead, before = state.item(1), state.item(-1)
    if ahead is not None and ahead.is_(Role.AGGREGATE) and ahead.op is not None:
        _by_aggregate(state, op, ahead.op.word)
        return
    ends = (ahead is None or ahead.is_(Role.SENTENCE)) and before is not None and bool(before.columns)
    if ends and state.query.targets and op.hints and last_shown_ranks(state, descending=op.descending):
        return
    if op.word in {"most", "least"} and (ahead is None or ahead.is_(Role.SENTENCE)):
        _by_verb(state, item, before, op)
        return
    _by_hint(state, item, op, state.current)


def _by_verb(state: State, item: Item, before: Item | None, op: Op) -> None:
    """Read "who earns the most", where the verb says a column of the rows themselves; else ask by what."""
    ref = _measure(state, before) if before is not None and before.columns else None
    if ref is None or ref.table != state.query.phrase.table:
        totals.ask_by_what(state, item)
        return
    if state.query.targets and state.query.targets[-1] == Target(ref):
        state.query.targets.pop()
    state.last = None
    rank(state, state.query.phrase, Target(ref), op.descending)


def _by_doing(state: State, ahead: Item, op: Op, table: str) -> bool:
    """Read "the most prescribed medication", where prescriptions are a table; whether it was so."""
    following = state.item(2)
    if following is None or following.start != ahead.end or op.word not in {"most", "least"}:
        return False
    whose = named_exactly(following)
    if whose is None:
        return False
    state.at += 2
    rank(state, opened(state, whose), count(table), op.descending)
    return True


def _by_aggregate(state: State, op: Op, function: str) -> None:
    """Read "the highest average rating"."""
    state.at += 1
    item = state.item(1)
    ref = state.column(item, measure=True) if item is not None and item.columns else None
    if ref is None:
        state.doubts.append("measure")
        return
    state.at += 1
    rank(state, state.query.phrase, Target(ref, function), op.descending)


def _describes(item: Item, after: Item) -> bool:
    """Whether a column only describes the one right after it ("population density")."""
    homes = {name.table for name, score in item.columns if score >= 0.8}
    return after.start == item.end and not after.op and not after.values and after.table is None and any(
        name.table in homes and score >= 0.9 for name, score in after.columns
    )  # fmt: skip


def _measure(state: State, item: Item) -> ColumnRef | None:
    """Return the number or date that an item says, if it says one."""
    links, rivals = len(state.links), len(state.rivals)
    ref = state.column(item, measure=True)
    if ref is not None:
        described = state.shapes.column(ref)
        if state.shapes.measures(described) or state.shapes.is_date(ref):
            return ref
    del state.links[links:], state.rivals[rivals:]
    return None


def _by_column(state: State, op: Op, ref: ColumnRef) -> None:
    plain = state.head and not state.query.targets and op.word in _EXTREMES and not state.query.phrase.clauses
    alone = plain and not any(says_table(item) for item in state.items[: state.at - 1])
    if alone and state.limit is None:
        state.target(Target(ref, "max" if op.descending else "min"))
        return
    phrase = state.phrase_of(ref.table) or state.current
    if state.head and state.query.targets and state.next_is(Role.AND, ahead=-2) and not state.next_is(Role.OF):
        state.target(Target(ref, "max" if op.descending else "min"))
        return
    rank(state, phrase, Target(ref), op.descending)


def _by_table(state: State, item: Item, op: Op, table: str) -> None:
    if op.hints:
        phrase = state.query.phrase if state.head and table == state.query.phrase.table else opened(state, table)
        _by_hint(state, item, op, phrase)
        return
    root = state.query.phrase.table
    if op.word in {"most", "least"}:
        rank(state, state.current if table != state.current.table else state.query.phrase, count(table), op.descending)
        return
    phrase = state.query.phrase if table == root else opened(state, table)
    _by_hint(state, item, op, phrase)


def count(table: str) -> Target:
    """Return the number of a table's rows."""
    return Target(function="count", table=table)


def opened(state: State, table: str) -> Phrase:
    """Return the phrase whose rows are ordered: a new one, unless it is the question's own."""
    if table == state.query.phrase.table and state.query.phrase.ranking is None and len(state.open) == 1:
        return state.query.phrase
    phrase = Phrase(table)
    state.add(Member(phrase))
    state.open.append(phrase)
    return phrase


def _by_hint(state: State, item: Item, op: Op, phrase: Phrase) -> None:
    found = state.shapes.hinted(op.hints, [phrase.table])
    if found is None and op.hints:
        near = sorted(state.shapes.schema.tables, key=lambda t: state.graph.distance(phrase.table, t))
        close = [t for t in near if t != phrase.table and state.graph.distance(phrase.table, t) < 1.5]
        found = state.shapes.hinted(op.hints, close)
    if found is None:
        numbers = state.shapes.numbers(phrase.table)
        if not numbers:
            state.doubts.append("measure")
            totals.ask_by_what(state, item)
            return
        if len(numbers) > 1:
            state.doubts.append("measure")
        found = numbers[0], False
    ref, reversed_ = found
    state.link(item, "column", f"{ref.table}.{ref.column}", "what the word compares", 0.8)
    rank(state, phrase, Target(ref), op.descending != reversed_)


def rank(state: State, phrase: Phrase, target: Target, descending: bool) -> None:
    """Keep only the first rows of a phrase by some order."""
    phrase.ranking = Ranking(target, descending, state.limit or (1 if state.top is None else None))
    state.limit, state.top = None, None
    state.head = state.head and not state.query.targets


def named_extreme(state: State, item: Item, ref: ColumnRef) -> bool:
    """Read "has the highest elevation" where that is a column's name; whether it was so."""
    op = PHRASES.get((item.text.split()[0].lower(),))
    if op is None or op.role is not Role.SUPERLATIVE or not state.shapes.measures(state.shapes.column(ref)):
        return False
    rank(state, state.phrase_of(ref.table) or state.current, Target(ref), op.descending)
    return True


def popular(state: State, _item: Item, op: Op) -> None:
    """Read "the most common genre": the value that most rows have."""
    ahead = state.item(1)
    limit = state.limit or 1
    state.limit = None
    if ahead is None or not ahead.names:
        root = state.query.phrase.table
        shown = any(target.column is not None and target.home == root for target in state.query.targets)
        rank(state, state.query.phrase, count(root if shown else _counting(state, root)), op.descending)
        return
    state.at += 1
    table = says_table(ahead)
    if table is None:
        ref = state.column(ahead)
        assert ref is not None  # it has columns
        if state.head:
            state.target(Target(ref))
        state.query.phrase.ranking = Ranking(count(ref.table), op.descending, limit)
    else:
        state.link(ahead, "table", table, "the name", 0.9)
        phrase = state.phrase_of(table) or state.query.phrase
        phrase.ranking = Ranking(count(_counting(state, table)), op.descending, limit)


def _counting(state: State, table: str) -> str:
    """Return what is counted for the popularity of a table's rows: what else is said, or what refers to them."""
    said = [t for item in state.items if (t := says_table(item)) is not None and t != table]
    if said:
        return said[0]
    many = [step.target for step in state.graph.steps(table) if not step.to_one]
    if not many:
        return table
    state.doubts.append("measure")
    return max(many, key=lambda name: state.shapes.schema.tables[name].rows or 0)


def last_shown_ranks(state: State, *, descending: bool) -> bool:
    """Read "which league was founded first": the column tells the order."""
    target = state.query.targets[-1]
    if target.column is not None and not target.function and sorts(state, target.column):
        state.query.targets.pop()
        rank(state, state.query.phrase, target, descending)
        return True
    return False


def sorts(state: State, ref: ColumnRef) -> bool:
    """Whether a column has an order that people speak of."""
    return state.shapes.measures(state.shapes.column(ref)) or state.shapes.is_date(ref)
