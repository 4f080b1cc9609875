"""Reading a question item by item into a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sql_synthesizer.words import comparing, naming, ordering, superlatives, totals, valuing
from sql_synthesizer.words.finishing import finish
from sql_synthesizer.words.keys import KeyGraph
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.money import by_measure
from sql_synthesizer.words.query import Phrase, Query, Target
from sql_synthesizer.words.roles import Op, Role
from sql_synthesizer.words.roots import root_of, says_table
from sql_synthesizer.words.shapes import Shapes
from sql_synthesizer.words.state import State


def read(items: Sequence[Item], shapes: Shapes, graph: KeyGraph) -> State | None:
    """Read a question; None where nothing in it says a table."""
    root = by_measure(items) or root_of(items, shapes, graph)
    if root is None:
        return None
    phrase = Phrase(root)
    state = State(items, shapes, graph, Query(phrase), open=[phrase])
    state.said = any(says_table(item) == root for item in items)
    while (item := state.item()) is not None:
        if item.op is not None:
            _HANDLERS.get(item.op.role, _nothing)(state, item, item.op)
        else:
            _thing(state, item)
        state.at += 1
    finish(state)
    return state


def _thing(state: State, item: Item) -> None:
    """Read what is no closed-class word: a name, a value, a number."""
    if comparing.month(state, item):
        return
    if item.measure is not None:
        totals.measured(state, item, item.measure)
    elif item.names and not (item.values and _rather_value(state, item)):
        naming.named(state, item)
    elif item.values and item.number is None:
        valuing.stored(state, item)
    elif item.number is not None:
        comparing.number(state, item)
    elif item.date is not None:
        comparing.date(state, item)
    elif item.literal is not None:
        valuing.literal(state, item)
    else:
        before = state.item(-1)
        if (
            state.head
            and not state.query.targets
            and before is not None
            and says_table(before) == state.query.phrase.table
        ):
            state.head = False
        state.doubts.append("unknown")


def _rather_value(state: State, item: Item) -> bool:
    """Whether a phrase that is a name and a value is meant as the value."""
    if item.quoted or (item.literal is None and item.text[:1].isupper() and item.start > 0):
        return True
    if state.last is not None and state.last_item == state.at - 1:
        return any(v.table == state.last.table and v.column == state.last.column for v in item.values)
    return max(v.score for v in item.values) > item.names[0][1] + 0.2


def _nothing(state: State, _item: Item, _op: Op) -> None:
    """Pass over a word that changes nothing."""


def _ask(state: State, _item: Item, _op: Op) -> None:
    if state.at == 0 or state.next_is(Role.AND, Role.SENTENCE, Role.ASK, ahead=-1):
        state.head = True


def _relative(state: State, item: Item, _op: Op) -> None:
    if item.text.lower() == "which" and (state.at == 0 or state.next_is(Role.AND, Role.SENTENCE, ahead=-1)):
        state.head = True
        return
    if state.at == 0:
        return
    state.head = False


def _with(state: State, _item: Item, _op: Op) -> None:
    state.head = False


def _of(state: State, item: Item, op: Op) -> None:
    if state.top is not None and item.text.lower() == "in terms of":
        ordering.order(state, item, op)


def _in(state: State, item: Item, op: Op) -> None:
    if item.text.lower() == "by" and (state.top is not None or state.query.phrase.ranking):
        ordering.order(state, item, op)
    elif item.text.lower() == "by" and _grouped_by(state):
        ordering.each(state, item, op)
    elif state.query.targets or state.query.phrase.clauses:
        state.head = False


def _grouped_by(state: State) -> bool:
    """Whether "by" names what numbers are told for ("average price by genre")."""
    ahead, after = state.item(1), state.item(2)
    ends = after is None or after.is_(Role.SENTENCE, Role.ORDER, Role.AND)
    numbers = any(target.aggregated for target in state.query.targets)
    return ends and numbers and ahead is not None and bool(ahead.names)


def _count_word(state: State, item: Item, _op: Op) -> None:
    if "often" in item.text or "times" in item.text:
        state.target(Target(function="count", table=state.query.phrase.table))
        return
    state.counting = "sum" if "total" in item.text.lower() else "count"
    if naming.listed(state) or state.next_is(Role.ASK, ahead=-1):
        naming.show_rows(state)
        state.head = True


def _aggregate(state: State, _item: Item, op: Op) -> None:
    ahead = state.item(1)
    if ahead is None or ahead.is_(Role.SENTENCE):
        ordering.late_aggregate(state, op.word)
        return
    if state.functions and op.word == "sum" and state.next_is(Role.COUNT):
        return
    if naming.listed(state) and not state.functions and not state.head:
        naming.show_rows(state)
    state.functions.append(op.word)
    if naming.listed(state):
        state.head = True


def _distinct(state: State, _item: Item, _op: Op) -> None:
    state.distinct = True


def _not(state: State, _item: Item, _op: Op) -> None:
    state.negated = True
    if state.query.targets or state.at > 1:
        state.head = False


def _or(state: State, item: Item, _op: Op) -> None:
    state.either = bool(state.current.clauses or state.query.phrase.clauses) and item.text.lower() == "or"


def _both(state: State, _item: Item, _op: Op) -> None:
    state.both = not state.head


def _how(state: State, item: Item, op: Op) -> None:
    if "location" in op.hints:
        state.where = op.hints
        return
    found = state.shapes.hinted(op.hints, state.tables())
    if found is not None:
        state.link(item, "column", f"{found[0].table}.{found[0].column}", "what is asked in this way", 0.8)
        state.target(Target(found[0]))
    else:
        state.doubts.append("measure")


def _compare(state: State, _item: Item, op: Op) -> None:
    if state.last is None and state.query.targets and state.next_is(Role.SENTENCE):
        return
    comparing.compare(state, op)


def _between(state: State, _item: Item, _op: Op) -> None:
    comparing.between(state)


def _pattern(state: State, _item: Item, op: Op) -> None:
    ahead = state.item(1)
    if op.word == "contains" and state.last is None and ahead is not None and not ahead.literal and ahead.names:
        state.head = False
        return
    valuing.pattern(state, op.word)


def _missing(state: State, _item: Item, _op: Op) -> None:
    valuing.missing(state)


def _named_as(state: State, _item: Item, _op: Op) -> None:
    state.head = False
    if state.last is None:
        naming.wait(state, state.shapes.display(state.current.table)[0])


def _sentence(state: State, _item: Item, _op: Op) -> None:
    state.head = True
    state.functions, state.counting, state.negated = [], "", False


def _their(state: State, _item: Item, _op: Op) -> None:
    if state.next_is(Role.AND, Role.WITH, Role.ALSO, Role.OF, ahead=-1) and not state.negated:
        state.head = True


def _same(state: State, _item: Item, _op: Op) -> None:
    valuing.same(state)


_HANDLERS: Final[dict[Role, Callable[[State, Item, Op], None]]] = {
    Role.ASK: _ask,
    Role.RELATIVE: _relative,
    Role.WITH: _with,
    Role.OF: _of,
    Role.IN: _in,
    Role.COUNT: _count_word,
    Role.AGGREGATE: _aggregate,
    Role.DISTINCT: _distinct,
    Role.NOT: _not,
    Role.EXCEPT: _not,
    Role.OR: _or,
    Role.BOTH: _both,
    Role.HOW: _how,
    Role.COMPARE: _compare,
    Role.BETWEEN: _between,
    Role.PATTERN: _pattern,
    Role.MISSING: _missing,
    Role.NAMED: _named_as,
    Role.SENTENCE: _sentence,
    Role.THEIR: _their,
    Role.SAME: _same,
    Role.SUPERLATIVE: superlatives.superlative,
    Role.POPULAR: superlatives.popular,
    Role.TOP: ordering.top,
    Role.ORDER: ordering.order,
    Role.DIRECTION: ordering.direction,
    Role.ALPHABETICAL: ordering.alphabetical,
    Role.EACH: ordering.each,
}
