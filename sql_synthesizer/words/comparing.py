"""Reading what is compared with what: numbers, dates, averages, patterns, stored values."""

from __future__ import annotations

from typing import Final

from sql_synthesizer.words import valuing
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import (
    Between,
    ColumnRef,
    Condition,
    Member,
    Operand,
    Phrase,
    Statistic,
    Target,
    Within,
)
from sql_synthesizer.words.roles import Op, Role
from sql_synthesizer.words.state import MONTHS, State, next_day, span_of

_SUFFIX: Final = {"or more", "or less", "or fewer"}
_REVERSED: Final = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_DENIED: Final = {"=": "!=", "!=": "=", "<": ">=", ">": "<=", "<=": ">", ">=": "<"}


def compare(state: State, op: Op) -> None:
    """Read a comparison from the word that compares on."""
    item = state.item(1)
    if item is None:
        return
    if item.is_(Role.AGGREGATE):
        state.at += 1
        _with_statistic(state, op, item)
    elif item.number is not None:
        state.at += 1
        with_number(state, op, item)
    elif item.date is not None:
        state.at += 1
        _with_span(state, op, item.date)
    elif item.text.lower() in MONTHS:
        state.at += 1
        _month(state, item, op)
    elif item.values and not item.names:
        state.at += 1
        _with_stored(state, op, item)
    elif op.word in {"=", "!="} or (item.literal and state.last is not None):
        state.negated = state.negated or op.word == "!="
    elif item.columns and item.table is None:
        _with_column(state, op, item)


def _with_column(state: State, op: Op, item: Item) -> None:
    """Read "above age 40", or a comparison of two columns."""
    if _valued(state.item(2)):
        state.at += 1
        state.last = state.column(item)
        compare(state, op)
    elif state.last is not None:
        state.at += 1
        other = state.column(item)
        if other is not None:
            state.add(Condition(state.last, op.word, other))


def _valued(item: Item | None) -> bool:
    return item is not None and (item.number is not None or item.date is not None)


def with_number(state: State, op: Op, item: Item) -> None:
    """Compare with a number; the reader stands on it."""
    assert item.number is not None  # the caller saw it
    word = _DENIED[op.word] if state.negated else op.word
    state.negated = False
    ref, reversed_ = _compared(state, op)
    year = item.number == int(item.number) and 1500 <= item.number <= 2100
    if state.measured is not None:
        _with_measured(state, state.measured, word, item.number)
        state.measured = state.last = None
        return
    if state.counted:
        state.query.having.append((Target(function="count", table=state.counted), word, item.number))
        state.counted = ""
        return
    if ref is not None:
        if year and state.shapes.is_date(ref):
            _with_span(state, Op(op.role, word), f"{item.number:.0f}", ref)
        else:
            state.add(Condition(ref, _REVERSED.get(word, word) if reversed_ else word, item.number))
        _skip_unit(state)
        return
    _without_column(state, Op(op.role, word, op.hints), item.number, year=year)


def _with_measured(state: State, measured: Target, op: str, number: float) -> None:
    """Compare an aggregate for each row; where the rows are counted only those are that meet it."""
    root = state.query.phrase.table
    if measured.home != root and any(target.aggregated and target.home == root for target in state.query.targets):
        state.add(Member(Phrase(measured.home), op=op, operand=number, target=measured))
    else:
        state.query.having.append((measured, op, number))


def _compared(state: State, op: Op) -> tuple[ColumnRef | None, bool]:
    """Return the column a comparison is about, if words tell it, and whether the order is the other way round."""
    if state.last is not None:
        return state.last, False
    ahead = state.item(1)
    if ahead is not None and ahead.names and ahead.table is None:
        measured = state.column(ahead, measure=True)
        if measured is not None and state.shapes.measures(state.shapes.column(measured)):
            state.at += 1
            return measured, False
    if op.hints:
        found = state.shapes.hinted(op.hints, state.tables())
        if found is not None and not (ahead is not None and ahead.table):
            return found
    return None, False


def _skip_unit(state: State) -> None:
    """Pass over "years old", "dollars" and other units after a number."""
    item = state.item(1)
    if item is not None and item.unknown and not item.literal:
        state.at += 1


def _without_column(state: State, op: Op, number: float, *, year: bool) -> None:
    """Compare a number that no column stands before: it counts what follows, is a year, or measures the rows."""
    ahead = state.item(1)
    if ahead is not None and ahead.table is not None and not ahead.is_(Role.AND):
        state.at += 1
        state.link(ahead, "table", ahead.table[0].table, "how many of them", ahead.table[1])
        count_of(state, ahead.table[0].table, op.word, number)
        return
    if year:
        _with_span(state, op, f"{number:.0f}")
        return
    able = [ref for table in state.tables() for ref in state.shapes.numbers(table)]
    if able:
        state.doubts.append("measure")
        state.add(Condition(able[0], op.word, number))
        _skip_unit(state)


def count_of(state: State, table: str, op: str, number: float) -> None:
    """Compare how many rows of a table belong to what is read."""
    if table == state.query.phrase.table or (state.query.targets and table in state.tables()):
        state.query.having.append((Target(function="count", table=table), op, number))
        return
    phrase = Phrase(table)
    state.add(Member(phrase, op=op, operand=number))
    state.open.append(phrase)


def _with_span(state: State, op: Op, text: str, ref: ColumnRef | None = None) -> None:
    """Compare a date with a day (YYYY-MM-DD), a month or a year."""
    ref = ref or state.last or _dated(state)
    if ref is None:
        state.doubts.append("date")
        return
    word = op.word
    if len(text) == 10:
        whole = Within(text, next_day(text))
        state.add(Condition(ref, "within", whole) if word == "=" else Condition(ref, word, text))
    elif not state.shapes.is_date(ref):
        state.add(Condition(ref, word, float(text[:4])))
    else:
        start, end = span_of(text) or (text, text)
        bounds: dict[str, tuple[str, Operand]] = {
            "=": ("within", Within(start, end)), "!=": ("<", start), ">": (">=", end), ">=": (">=", start),
            "<": ("<", start), "<=": ("<", end),
        }  # fmt: skip
        state.add(Condition(ref, *bounds[word]))


def _dated(state: State) -> ColumnRef | None:
    """Return the column that says when, of the nearest table that has one."""
    said = {word for item in state.items for word in item.text.lower().split()}
    tables = [*_added_up(state), *state.tables(), *sorted(state.shapes.schema.tables, key=state.near)]
    for table in tables:
        if state.near(table) > 4.0:
            break
        dates = state.shapes.dates(table)
        if dates:
            return max(
                dates, key=lambda ref: len({w for s in said for w in state.shapes.words(ref) if s.startswith(w)})
            )
    return None


def _added_up(state: State) -> list[str]:
    """Return the tables whose amounts rank or are compared: a date is theirs rather than another's."""
    query = state.query
    ranking = [query.phrase.ranking.target] if query.phrase.ranking is not None else []
    summed = [*ranking, *(target for target, _ in query.order), *(target for target, _, _ in query.having)]
    return [target.home for target in summed if target.function == "sum"]


def _month(state: State, item: Item, op: Op) -> None:
    year = state.item(1)
    year = state.item(2) if year is not None and year.is_(Role.AND, Role.OF, Role.IN) else year
    if year is not None and year.number is not None and year.number > 1500:
        state.at += 1 if year is state.item(1) else 2
        _with_span(state, op, f"{year.number:.0f}-{MONTHS[item.text.lower()]:02d}")
        return
    state.doubts.append("date")


def month(state: State, item: Item) -> bool:
    """Read "March 2021" where no word compares; whether it was one."""
    if item.text.lower() not in MONTHS or state.last is not None:
        return False
    before = len(state.doubts)
    _month(state, item, Op(Role.COMPARE, "="))
    return len(state.doubts) == before


def date(state: State, item: Item) -> None:
    """Read a date where no word compares."""
    assert item.date is not None  # the caller saw it
    _with_span(state, Op(Role.COMPARE, "="), item.date)


def number(state: State, item: Item) -> None:
    """Read a number that no comparing word stands before."""
    assert item.number is not None  # the caller saw it
    ahead = state.item(1)
    if ahead is not None and ahead.op is not None and ahead.op.role is Role.COMPARE and ahead.text.lower() in _SUFFIX:
        suffix = ahead.op
        state.items = [*state.items[: state.at + 1], *state.items[state.at + 2 :]]
        with_number(state, suffix, item)
    elif ahead is not None and ahead.is_(Role.SUPERLATIVE, Role.POPULAR):
        state.limit = int(item.number)
    elif state.head and ahead is not None and state.last is None and _says(ahead, state.query.phrase.table):
        if not state.functions and not state.counting and not state.query.targets and item.number < 1000:
            state.limit = int(item.number)
    elif (
        item.values and state.last is not None and any(valuing.at(v.table, v.column) == state.last for v in item.values)
    ):
        state.add(
            Condition(
                state.last, "=", next(v.value for v in item.values if valuing.at(v.table, v.column) == state.last)
            )
        )
    else:
        with_number(state, Op(Role.COMPARE, "="), item)


def _says(item: Item, table: str) -> bool:
    return item.table is not None and item.table[0].table == table


def between(state: State) -> None:
    """Read two bounds."""
    numbers: list[float | str] = []
    ahead = 1
    while len(numbers) < 2 and (item := state.item(ahead)) is not None and ahead < 6:
        if item.date or item.number is not None:
            numbers.append(item.date or item.number or 0.0)
        elif not item.is_(Role.AND, Role.IN, Role.OR):
            break
        ahead += 1
    if len(numbers) < 2:
        state.doubts.append("between")
        return
    state.at += ahead - 1
    low, high = numbers
    ref, _ = _compared(state, Op(Role.BETWEEN))
    years = all(isinstance(n, str) or 1500 <= n <= 2100 for n in numbers)
    ref = ref or (_dated(state) if years else next(iter(state.shapes.numbers(state.current.table)), None))
    if ref is None:
        state.doubts.append("between")
    elif state.shapes.is_date(ref):
        start, end = (n if isinstance(n, str) else f"{n:.0f}" for n in (low, high))
        start = start if len(start) == 10 else f"{start}-01-01"
        end = next_day(end) if len(end) == 10 else f"{int(end) + 1}-01-01"
        state.add(Condition(ref, "within", Within(start, end)))
    else:
        state.add(Condition(ref, "between", Between(low, high)))
        _skip_unit(state)


def _with_statistic(state: State, op: Op, item: Item) -> None:
    """Read "above the average", "more than the average price of all tracks"."""
    assert item.op is not None  # the caller saw it
    ahead = state.item(1)
    ref, _ = (state.last, False)
    if ahead is not None and ahead.columns and ahead.table is None:
        state.at += 1
        named = state.column(ahead, measure=True)
        ref = ref or named
    elif ref is None and op.hints:
        found = state.shapes.hinted(op.hints, state.tables())
        ref = found[0] if found else None
    if ref is None:
        state.doubts.append("measure")
        ref = next(iter(state.shapes.numbers(state.current.table)), None)
    if ref is not None:
        inner = Phrase(ref.table)
        state.add(Condition(ref, op.word, Statistic(Target(ref, item.op.word), inner)))
        state.link(item, "rule", f"{op.word} {item.op.word}({ref.column})", "compared with all rows", 0.9)
        state.open.append(inner)


def _with_stored(state: State, op: Op, item: Item) -> None:
    """Read "larger than Texas": the same column of the row that is called so."""
    stored = state.value(item.values)
    ref = state.last
    if ref is None and op.hints:
        found = state.shapes.hinted(op.hints, [stored.table, *state.tables()])
        ref = found[0] if found else None
    if op.word in {"=", "!="} or ref is None or stored.table != ref.table:
        state.negated = state.negated or op.word == "!="
        state.at -= 1
        return
    inner = Phrase(stored.table, [[Condition(ColumnRef(stored.table, stored.column), "=", stored.value)]])
    state.link(
        item, "value", f"{stored.table}.{stored.column} = {stored.value}", "compared with that row", stored.score
    )
    state.add(Condition(ref, op.word, Statistic(Target(ref), inner)))
