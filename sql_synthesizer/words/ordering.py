"""Reading superlatives, orders, limits and groups."""

from __future__ import annotations

from typing import Final

from sql_synthesizer.words.lexicon import PHRASES, Op, Role
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import ColumnRef, Member, Phrase, Ranking, Target
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


def superlative(state: State, item: Item, op: Op) -> None:
    """Read "the youngest singer", "the highest price", "most albums"."""
    ahead = state.item(1)
    if ahead is not None and ahead.number is not None and not ahead.names:
        state.limit = int(ahead.number)
        state.at += 1
        ahead = state.item(1)
    if ahead is not None and ahead.is_(Role.AGGREGATE) and ahead.op is not None:
        _by_aggregate(state, op, ahead.op.word)
        return
    after = state.item(2)
    if ahead is not None and after is not None and ahead.columns and ahead.table is None and _describes(ahead, after):
        state.at += 1
        ahead = after
    table = says_table(ahead) if ahead is not None else None
    if ahead is not None and ahead.columns and (table is None or not op.hints):
        measured = _measure(state, ahead)
        if measured is not None:
            state.at += 1
            _by_column(state, op, measured)
            return
    if ahead is not None and table is not None and _by_doing(state, ahead, op, table):
        return
    if ahead is not None and table is not None:
        state.at += 1
        state.link(ahead, "table", table, "the name", ahead.table[1] if ahead.table else 0.9)
        _by_table(state, item, op, table)
        return
    if ahead is not None and ahead.columns and op.word in {"most", "least"}:
        ref = state.column(ahead)
        if ref is not None:
            state.at += 1
            _rank(state, state.current, Target(ref, "count"), op.descending)
            return
    _by_hint(state, item, op, state.current)


def _by_doing(state: State, ahead: Item, op: Op, table: str) -> bool:
    """Read "the most prescribed medication", where prescriptions are a table; whether it was so."""
    following = state.item(2)
    if following is None or following.start != ahead.end or op.word not in {"most", "least"}:
        return False
    whose = named_exactly(following)
    if whose is None:
        return False
    state.at += 2
    _rank(state, _opened(state, whose), _count(table), op.descending)
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
    _rank(state, state.query.phrase, Target(ref, function), op.descending)


def _describes(item: Item, after: Item) -> bool:
    """Whether a column only describes the one right after it ("population density")."""
    homes = {name.table for name, score in item.columns if score >= 0.8}
    return after.start == item.end and not after.op and not after.values and after.table is None and any(
        name.table in homes and score >= 0.9 for name, score in after.columns
    )  # fmt: skip


def _measure(state: State, item: Item) -> ColumnRef | None:
    """Return the number or date that an item says, if it says one."""
    links = len(state.links)
    ref = state.column(item, measure=True)
    if ref is not None:
        described = state.shapes.column(ref)
        if state.shapes.measures(described) or state.shapes.is_date(ref):
            return ref
    del state.links[links:]
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
    _rank(state, phrase, Target(ref), op.descending)


def _by_table(state: State, item: Item, op: Op, table: str) -> None:
    if op.hints:
        phrase = state.query.phrase if state.head and table == state.query.phrase.table else _opened(state, table)
        _by_hint(state, item, op, phrase)
        return
    root = state.query.phrase.table
    if op.word in {"most", "least"}:
        _rank(
            state, state.current if table != state.current.table else state.query.phrase, _count(table), op.descending
        )
        return
    phrase = state.query.phrase if table == root else _opened(state, table)
    _by_hint(state, item, op, phrase)


def _count(table: str) -> Target:
    return Target(function="count", table=table)


def _opened(state: State, table: str) -> Phrase:
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
            return
        if len(numbers) > 1:
            state.doubts.append("measure")
        found = numbers[0], False
    ref, reversed_ = found
    state.link(item, "column", f"{ref.table}.{ref.column}", "what the word compares", 0.8)
    _rank(state, phrase, Target(ref), op.descending != reversed_)


def _rank(state: State, phrase: Phrase, target: Target, descending: bool) -> None:
    phrase.ranking = Ranking(target, descending, state.limit or (1 if state.top is None else None))
    state.limit, state.top = None, None
    state.head = state.head and not state.query.targets


def named_extreme(state: State, item: Item, ref: ColumnRef) -> bool:
    """Read "has the highest elevation" where that is a column's name; whether it was so."""
    op = PHRASES.get((item.text.split()[0].lower(),))
    if op is None or op.role is not Role.SUPERLATIVE or not state.shapes.measures(state.shapes.column(ref)):
        return False
    _rank(state, state.phrase_of(ref.table) or state.current, Target(ref), op.descending)
    return True


def popular(state: State, _item: Item, op: Op) -> None:
    """Read "the most common genre": the value that most rows have."""
    ahead = state.item(1)
    limit = state.limit or 1
    state.limit = None
    if ahead is None or not ahead.names:
        _rank(state, state.query.phrase, _count(_counting(state, state.query.phrase.table)), op.descending)
        return
    state.at += 1
    table = says_table(ahead)
    if table is None:
        ref = state.column(ahead)
        assert ref is not None  # it has columns
        if state.head:
            state.target(Target(ref))
        state.query.phrase.ranking = Ranking(_count(ref.table), op.descending, limit)
    else:
        state.link(ahead, "table", table, "the name", 0.9)
        phrase = state.phrase_of(table) or state.query.phrase
        phrase.ranking = Ranking(_count(_counting(state, table)), op.descending, limit)


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


def top(state: State, item: Item, op: Op) -> None:
    """Read "top 5"; by what comes later, or is the measure that there is."""
    ahead, before = state.item(1), state.item(-1)
    if ahead is not None and ahead.number is not None:
        state.limit = int(ahead.number)
        state.at += 1
    elif item.text.lower() == "first" and before is not None and before.columns and state.query.targets:
        _last_shown_ranks(state)
        return
    state.top = op.descending


def _last_shown_ranks(state: State) -> None:
    """Read "which league was founded first": the column tells the order."""
    target = state.query.targets[-1]
    if target.column is not None and not target.function and _sorts(state, target.column):
        state.query.targets.pop()
        _rank(state, state.query.phrase, target, descending=False)


def order(state: State, _item: Item, _op: Op) -> None:
    """Read what follows "ordered by"."""
    state.functions, state.counting = [], ""
    before = len(state.query.order)
    descending = bool(state.top) if state.top is not None else False
    while (ahead := state.item(1)) is not None:
        if not _order_key(state, ahead, descending if state.top is None else state.top):
            break
    if len(state.query.order) == before and state.query.targets and not state.next_is(Role.DIRECTION):
        state.doubts.append("order")
    if state.limit is not None and len(state.query.order) > before:
        state.query.limit, state.limit = state.limit, None
    state.top = None


def _order_key(state: State, ahead: Item, descending: bool) -> bool:
    """Take one more word of an order; whether it was one."""
    if ahead.is_(Role.DIRECTION, Role.ALPHABETICAL):
        state.at += 1
        assert ahead.op is not None  # it has these roles
        _turn(state, ahead.op.descending)
    elif ahead.is_(Role.COUNT):
        state.at += 1
        state.counting = "count"
    elif ahead.is_(Role.SUPERLATIVE, Role.TOP) and ahead.op is not None:
        state.at += 1
        _order_word(state, ahead.op)
    elif ahead.is_(Role.IN) and ahead.text.lower() in {"from", "to"}:
        state.at += 1
    elif ahead.is_(Role.AGGREGATE) and ahead.op is not None:
        state.at += 1
        state.functions = [ahead.op.word]
    elif ahead.is_(Role.THEIR, Role.OF, Role.DISTINCT, Role.EACH) or (ahead.is_(Role.AND) and _named_after(state)):
        state.at += 1
    elif ahead.names:
        state.at += 1
        _add_key(state, ahead, descending)
    else:
        return False
    return True


def _order_word(state: State, op: Op) -> None:
    """Read "from tallest to shortest", or "highest" before or after its column."""
    found = state.shapes.hinted(op.hints, state.tables()) if not state.query.order else None
    if found is not None and (state.item(1) is None or state.next_is(Role.IN, Role.SENTENCE)):
        state.query.order.append((Target(found[0]), op.descending != found[1]))
    elif op.role is Role.SUPERLATIVE and op.word != "first" and not state.query.order:
        state.top = op.descending


def _named_after(state: State) -> bool:
    item = state.item(2)
    item = state.item(3) if item is not None and item.is_(Role.THEIR, Role.AND) else item
    return item is not None and bool(item.names)


def _add_key(state: State, ahead: Item, descending: bool) -> None:
    table = says_table(ahead)
    if state.counting and table is not None:
        state.query.order.append((_count(table), descending))
    elif table is not None and state.query.order and state.next_is(Role.OF, Role.EACH, ahead=-1):
        pass
    elif table is not None and not ahead.columns:
        state.query.order += [(Target(ref), descending) for ref in state.shapes.display(table)]
    else:
        ref = state.column(ahead, measure=bool(state.functions))
        if ref is None:
            return
        function = state.functions[0] if state.functions else ("count" if state.counting else "")
        if function == "count" and state.shapes.measures(state.shapes.column(ref)):
            function = ""
        target = Target(ref, function)
        if not function and len(state.query.targets) > 0 and state.query.order and state.next_is(Role.OF, ahead=-1):
            return
        state.query.order.append((target, descending))
    state.functions, state.counting = [], ""


def _turn(state: State, descending: bool) -> None:
    if state.query.order:
        target, _ = state.query.order[-1]
        state.query.order[-1] = (target, descending)
    else:
        state.top = descending


def direction(state: State, item: Item, op: Op) -> None:
    """Read "in descending order (of ...)" apart from its key."""
    ahead = state.item(2) if state.next_is(Role.OF) else None
    names = ahead is not None and bool(ahead.names or ahead.is_(Role.COUNT, Role.AGGREGATE, Role.THEIR))
    if item.text.lower().endswith(("of", "by")) or names:
        before = len(state.query.order)
        order(state, item, op)
        state.query.order[before:] = [(target, op.descending) for target, _ in state.query.order[before:]]
    elif state.query.order:
        _turn(state, op.descending)
    elif state.query.phrase.ranking is not None:
        state.query.phrase.ranking.limit = None
    else:
        _order_by_last(state, op.descending)


def _order_by_last(state: State, descending: bool) -> None:
    measured = [t for t in state.query.targets if t.aggregated or (t.column and _sorts(state, t.column))]
    chosen = measured[-1:] or state.query.targets[:1]
    state.query.order += [(target, descending) for target in chosen]
    if not chosen:
        state.doubts.append("order")


def _sorts(state: State, ref: ColumnRef) -> bool:
    return state.shapes.measures(state.shapes.column(ref)) or state.shapes.is_date(ref)


def alphabetical(state: State, item: Item, op: Op) -> None:
    """Read "in alphabetical order": by the first text that is shown, unless a column follows."""
    ahead = state.item(1)
    if ahead is not None and (ahead.names or ahead.is_(Role.OF, Role.THEIR)):
        order(state, item, op)
    elif state.query.order:
        _turn(state, descending=False)
    else:
        shown = [t for t in state.query.targets if t.column and not t.function and not _sorts(state, t.column)]
        display = [Target(ref) for ref in state.shapes.display(state.query.phrase.table)]
        state.query.order.append(((shown or display)[0], False))


def each(state: State, _item: Item, _op: Op) -> None:
    """Read by what rows are put together."""
    taken = False
    while (ahead := state.item(1)) is not None:
        if ahead.names and not (ahead.values and ahead.literal):
            state.at += 1
            _group(state, ahead)
            taken = True
            if not (state.next_is(Role.AND) and _group_after(state)):
                break
        elif ahead.is_(Role.AND, Role.DISTINCT, Role.OF, Role.EACH, Role.THEIR):
            state.at += 1
        else:
            break
    if not taken:
        state.doubts.append("group")


def _group_after(state: State) -> bool:
    """Whether "and" joins one more thing to group by."""
    item, after = state.item(2), state.item(3)
    return item is not None and bool(item.columns) and (after is None or after.is_(Role.SENTENCE, Role.ORDER))


def _group(state: State, item: Item) -> None:
    table = says_table(item)
    qualified = state.item(1)
    if table is not None and qualified is not None and qualified.start == item.end and says_table(qualified):
        state.at += 1
        item, table, qualified = qualified, says_table(qualified), state.item(1)
    if table is not None and qualified is not None and any(
        name.table == table and score >= 0.85 for name, score in qualified.columns
    ) and qualified.table is None:  # fmt: skip
        state.at += 1
        item, table = qualified, None
    if table is not None:
        near = [pair for pair in item.columns if pair[0].table == state.query.phrase.table and pair[1] >= 0.97]
        if near and table != state.query.phrase.table and (item.table or near[0])[1] < 0.99:
            table = None
    if table is not None:
        state.link(item, "table", table, "one row for each", 0.9)
        state.query.group_tables.append(table)
    else:
        ref = state.column(item)
        if ref is not None:
            state.query.groups.append(ref)


def late_aggregate(state: State, function: str) -> None:
    """Read "in total" after what it is about."""
    state.query.targets = [
        Target(t.column, function)
        if t.column is not None and not t.function and state.shapes.measures(state.shapes.column(t.column))
        else t
        for t in state.query.targets
    ]
