"""Reading the names of tables and columns: what is shown, counted, told about or joined."""

from __future__ import annotations

from typing import Final

from sql_synthesizer.words import superlatives, valuing
from sql_synthesizer.words.keys import FAR
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import ColumnRef, Condition, Phrase, Statistic, Target
from sql_synthesizer.words.roles import Role
from sql_synthesizer.words.roots import named_exactly, says_table
from sql_synthesizer.words.state import State

_COMPARING: Final = (Role.COMPARE, Role.BETWEEN, Role.PATTERN, Role.MISSING)


def named(state: State, item: Item) -> None:
    """Read a name: as a table where the schema has one of that name, else as a column."""
    table = item.table
    columns = item.columns
    here = [pair for pair in columns if pair[0].table in state.tables() and pair[1] >= 0.97]
    if table is not None and columns and table[1] < columns[0][1] - 0.02:
        table = None
    if table is not None and here and table[1] < 0.99 and table[0].table not in state.tables():
        table = None
    if table is not None and state.near(table[0].table) >= FAR:
        state.doubts.append("unreachable")
        table = None
        if not columns:
            return
    if table is not None:
        state.link(item, "table", table[0].table, "the name" if table[1] >= 0.95 else "a like name", table[1])
        _table(state, table[0].table)
    else:
        _column(state, item)


def _table(state: State, table: str) -> None:
    referred = valuing.referred(state, table)
    if referred is not None and state.last is not None:
        inner = Phrase(table)
        state.add(Condition(state.last, "in", Statistic(Target(ColumnRef(table, referred)), inner)))
        state.open.append(inner)
        state.said = True
    elif state.counting and not _qualifies(state, table):
        _count(state, Target(function="count", table=table, distinct=state.distinct))
    elif state.functions and not _qualifies(state, table):
        _measure_of(state, table)
    elif _qualifies(state, table):
        return
    elif state.head and state.query.targets and listed(state) and not state.next_is(Role.OF, ahead=-2):
        for ref in state.shapes.display(table):
            state.target(Target(ref))
        state.phrase_of(table) or state.enter(table)
    elif (table == state.current.table and not state.negated) or (state.negated and _except(state, table)):
        return
    else:
        phrase = state.enter(table)
        if state.negated:
            state.negated = False
        if phrase is not state.query.phrase and not state.query.targets and state.head:
            state.head = False


def _except(state: State, table: str) -> bool:
    """Read "cities that have customers but no employees": values of one table that another does not have."""
    shown = state.query.targets[0].column if len(state.query.targets) == 1 else None
    if (
        shown is None
        or shown.column not in state.shapes.schema.tables[table].columns
        or shown in state.shapes.key(shown.table)
    ):
        return False
    if shown in state.shapes.display(shown.table):
        return False
    inner = Phrase(table)
    state.add(Condition(shown, "in", Statistic(Target(ColumnRef(table, shown.column)), inner)))
    state.query.distinct = True
    state.open.append(inner)
    return True


def listed(state: State) -> bool:
    """Whether the word before lists one more thing ("the singers and their songs")."""
    return state.next_is(Role.AND, Role.THEIR, Role.ALSO, ahead=-1)


def _qualifies(state: State, table: str) -> bool:
    """Whether a table only says whose column comes next ("singer name")."""
    ahead, item = state.item(1), state.item()
    if ahead is None or item is None or ahead.op is not None:
        return False
    if ahead.table is None:
        likely = 0.7 if ahead.start == item.end and state.functions else 0.85
        return any(name.table == table and score >= likely for name, score in ahead.columns)
    return ahead.start == item.end and named_exactly(ahead) not in {None, table}


def _measure_of(state: State, table: str) -> None:
    """Read "the total of the orders": the one measure that the rows have."""
    numbers = state.shapes.numbers(table)
    state.enter(table)
    if not numbers:
        return
    if len(numbers) > 1:
        state.doubts.append("measure")
    for function in state.functions:
        state.target(Target(numbers[0], function))
    state.functions = []


def _count(state: State, target: Target) -> None:
    table = target.home
    if state.phrase_of(table) is None and state.head and not state.query.targets:
        state.enter(table)
    if state.head:
        state.target(target)
    elif state.next_is(*_COMPARING):
        state.counted = table
    elif listed(state) or state.next_is(Role.AND, Role.ALSO, ahead=-2):
        state.target(target)
    else:
        state.target(target)
    state.counting, state.distinct = "", False


def _column(state: State, item: Item) -> None:
    if _compound(state, item) or _called(state, item):
        return
    ref = state.column(item, measure=bool(state.functions))
    assert ref is not None  # without a table there are columns
    if item.text.lower() == "total" and state.next_is(Role.OF) and not state.functions and not state.query.targets:
        state.functions = ["sum"]
    if _verb(state, ref):
        state.head = False
        wait(state, ref)
    elif _told(state):
        if state.functions and not (state.head and not state.query.targets):
            state.measured = Target(ref, state.functions.pop())
        wait(state, ref)
    elif state.functions:
        for function in state.functions:
            state.target(Target(ref, function, distinct=state.distinct))
        state.functions, state.distinct = [], False
    elif state.counting:
        _count_column(state, ref)
    elif not _condition(state, item, ref):
        _show(state, ref)


def _condition(state: State, item: Item, ref: ColumnRef) -> bool:
    """Read a column that is a condition by itself; whether it was one."""
    if not state.head and superlatives.named_extreme(state, item, ref):
        return True
    if _truth(state, ref):
        return True
    if state.negated and (not state.head or state.query.targets):
        state.negated = False
        state.add(Condition(ref, "null", None))
        return True
    return False


def _show(state: State, ref: ColumnRef) -> None:
    if (state.head and not _trails(state, ref)) or listed(state):
        state.target(Target(ref))
        state.query.distinct = state.query.distinct or state.distinct
        state.distinct = False
        state.head = True
    else:
        wait(state, ref)


def _called(state: State, item: Item) -> bool:
    """Read "names" of rows that have no one column of that name; whether it was so."""
    table = state.whose(item) or state.query.phrase.table
    if item.text.lower() not in {"name", "names", "full name", "full names"} or not (state.head or listed(state)):
        return False
    if any(name.table == table and score >= 0.9 for name, score in item.columns) or _told(state):
        return False
    for ref in state.shapes.display(table):
        state.target(Target(ref))
    return True


def _verb(state: State, ref: ColumnRef) -> bool:
    """Whether a column right after the table that is asked for tells what its rows do ("states border ...")."""
    before, item = state.item(-1), state.item()
    if before is None or item is None or before.end != item.start or state.functions or state.counting:
        return False
    own = any(
        step.target == ref.table and step.source_columns == (ref.column,) for step in state.graph.steps(ref.table)
    )
    if own and says_table(before) == ref.table:
        return True
    return says_table(before) not in {None, ref.table} and ref.table != state.query.phrase.table


def _trails(state: State, ref: ColumnRef) -> bool:
    """Whether a column stands after what is asked for without being joined to it ("does each employee support")."""
    before = state.item(-1)
    return bool(state.query.targets) and before is not None and not before.is_(
        Role.AND, Role.THEIR, Role.ALSO, Role.ASK, Role.OF, Role.DISTINCT, Role.OR, Role.SENTENCE, Role.RELATIVE
    ) and says_table(before) != ref.table  # fmt: skip


def _compound(state: State, item: Item) -> bool:
    """Whether a column only describes the one right after it ("population density")."""
    ahead = state.item(1)
    if ahead is None or ahead.start != item.end or ahead.op is not None or ahead.values or not ahead.columns:
        return False
    homes = {name.table for name, score in item.columns if score >= 0.8}
    return ahead.table is None and any(name.table in homes and score >= 0.9 for name, score in ahead.columns)


def _truth(state: State, ref: ColumnRef) -> bool:
    """Read a yes-or-no column outside the list of what is shown."""
    before = state.item(-1)
    after_rows = before is not None and says_table(before) == state.query.phrase.table
    told = not state.head or bool(state.query.targets) or state.negated or after_rows
    return told and valuing.truth(state, ref)


def wait(state: State, ref: ColumnRef) -> None:
    """Keep a column for the comparison that follows."""
    state.last, state.last_item = ref, state.at


def _count_column(state: State, ref: ColumnRef) -> None:
    total = state.counting == "sum"
    measure = state.shapes.measures(state.shapes.column(ref)) and not state.distinct
    state.counting = ""
    if measure:
        state.target(Target(ref, "sum" if total else ""))
    else:
        key = ref in state.shapes.key(ref.table)
        state.target(Target(ref, "count", distinct=not key))
    state.distinct = False


def _told(state: State) -> bool:
    """Whether a column is told about next: compared, or followed by a value."""
    ahead = state.item(1)
    if ahead is None:
        return False
    if ahead.op is not None:
        if ahead.op.role is Role.IN:
            return _about(state, state.item(2))
        if ahead.op.role is Role.NOT or (ahead.op.role is Role.OF and not state.head):
            return state.item(2) is not None and bool((state.item(2) or ahead).values)
        return ahead.op.role in _COMPARING
    stored = [v for v in ahead.values if any(v.column == n.column for n, _ in (state.item() or ahead).columns)]
    if stored and not ahead.names:
        return True
    return (ahead.number is not None or bool(ahead.literal) or ahead.date is not None) and not (
        state.head and not state.query.targets and not ahead.quoted
    )


def show_rows(state: State) -> None:
    """Show what rows are called before one more thing is asked of them ("which author ..., and how many ...")."""
    if (
        not state.query.targets
        and state.said
        and state.at > 1
        and not state.query.group_tables
        and not state.query.groups
    ):
        for ref in state.shapes.display(state.query.phrase.table):
            state.target(Target(ref))


def _about(state: State, item: Item | None) -> bool:
    """Whether what follows "in", "by", "on" is a value of the column that is read ("insured by Aetna")."""
    here = state.item()
    if item is None or here is None or not here.columns:
        return False
    best = here.columns[0][0]
    if item.number is not None or item.date is not None:
        ref = ColumnRef(best.table, best.column or "")
        return ref in state.shapes.dates(best.table)
    return any(v.table == best.table and v.column == best.column for v in item.values)
