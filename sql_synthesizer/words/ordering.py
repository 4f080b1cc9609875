"""Reading orders, limits and groups."""

from __future__ import annotations

from sql_synthesizer.words import superlatives, totals
from sql_synthesizer.words.lexicon import PHRASES
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import Target
from sql_synthesizer.words.refusing import NUMBER
from sql_synthesizer.words.roles import Op, Role
from sql_synthesizer.words.roots import says_table
from sql_synthesizer.words.state import State


def top(state: State, item: Item, op: Op) -> None:
    """Read "top 5"; by what comes later, or is the measure that there is."""
    ahead, before = state.item(1), state.item(-1)
    if ahead is not None and ahead.number is not None:
        state.limit = int(ahead.number)
        state.at += 1
    elif item.text.lower() == "first" and before is not None and before.columns and state.query.targets:
        superlatives.last_shown_ranks(state, descending=False)
        return
    elif item.text.lower() == "first" and ahead is not None and says_table(ahead) is not None:
        superlatives.superlative(state, item, PHRASES["earliest",])
        return
    elif item.text.lower() != "first" and ahead is not None:
        totals.some_rows(state, item, ahead)
    state.top = op.descending


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
    elif ahead.measure is not None or (ahead.unknown and ahead.text.lower() in NUMBER):
        state.at += 1
        totals.order_by(state, ahead, descending)
    elif ahead.names:
        state.at += 1
        if not _whose(ahead, state.item(1)):
            _add_key(state, ahead, descending)
    else:
        return False
    return True


def _whose(item: Item, after: Item | None) -> bool:
    """Whether a table only says whose column comes right after it ("by track price")."""
    table = says_table(item)
    if table is None or after is None or after.start != item.end or after.table is not None:
        return False
    return any(name.table == table for name, _ in after.columns)


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
        state.query.order.append((superlatives.count(table), descending))
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
        target = totals.of_many(state, ahead, ref) if not function else Target(ref, function)
        later = state.query.targets and state.query.order and state.next_is(Role.OF, ahead=-1)
        if later and not target.function:
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
    measured = [t for t in state.query.targets if t.aggregated or (t.column and superlatives.sorts(state, t.column))]
    chosen = measured[-1:] or state.query.targets[:1]
    state.query.order += [(target, descending) for target in chosen]
    if not chosen:
        state.doubts.append("order")


def alphabetical(state: State, item: Item, op: Op) -> None:
    """Read "in alphabetical order": by the first text that is shown, unless a column follows."""
    ahead = state.item(1)
    if ahead is not None and (ahead.names or ahead.is_(Role.OF, Role.THEIR)):
        order(state, item, op)
    elif state.query.order:
        _turn(state, descending=False)
    else:
        shown = [
            t for t in state.query.targets if t.column and not t.function and not superlatives.sorts(state, t.column)
        ]
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
