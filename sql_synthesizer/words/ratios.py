"""Ratios, shares and percentages: two questions in one, and their quotient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from sql_synthesizer.words.compiling import Compiler
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import Phrase, Query, Target
from sql_synthesizer.words.roles import Role
from sql_synthesizer.words.state import State


@dataclass(frozen=True, slots=True)
class Ratio:
    """Two questions, of which the first is divided by the second.

    Attributes:
        sides: the items of both; of one only where a share of all rows is asked for.
        percent: whether the quotient is told out of a hundred.
    """

    sides: tuple[Sequence[Item], ...]
    percent: bool

    def compiled(self, states: Sequence[State], compiler: Compiler) -> exp.Query:
        """Return SELECT of the quotient.

        Raises:
            Unreachable: no key leads to a table that is needed.
        """
        top = _single(states[0])
        bottom = _single(states[1]) if len(states) > 1 else Query(Phrase(top.phrase.table), list(top.targets))
        above = exp.cast(compiler.query(top).subquery(), "double")
        below = exp.Nullif(this=compiler.query(bottom).subquery(), expression=exp.Literal.number(0))
        quotient: exp.Expr = exp.Div(this=above, expression=below)
        if self.percent:
            quotient = exp.Mul(this=exp.Literal.number("100.0"), expression=quotient)
        return exp.select(quotient)


def _single(state: State) -> Query:
    """Return the query with one number as its answer: what it tells, or how many rows there are."""
    query = state.query
    told = [
        target
        for target in query.targets
        if target.aggregated or (target.column and state.shapes.measures(state.shapes.column(target.column)))
    ]
    count = Target(function="count", table=query.phrase.table)
    return replace(query, targets=told[:1] or [count], groups=[], group_tables=[], order=[])


def ratio_of(items: Sequence[Item]) -> Ratio | None:
    """Return the two sides of a ratio, None where the question asks for none."""
    at = next((n for n, item in enumerate(items) if item.is_(Role.RATIO, Role.PERCENT)), None)
    if at is None or any(item.is_(Role.EACH) for item in items):
        return None
    rest = list(items[at + 1 :])
    while rest and rest[0].is_(Role.OF, Role.IN, Role.AND):
        rest.pop(0)
    cut = next((n for n, item in enumerate(rest) if n and _parts(item, percent=items[at].is_(Role.PERCENT))), None)
    percent = items[at].is_(Role.PERCENT)
    if cut is None:
        return Ratio((rest,), percent)
    return Ratio((rest[:cut], rest[cut + 1 :]), percent)


def _parts(item: Item, *, percent: bool) -> bool:
    """Whether an item stands between what is divided and what it is divided by."""
    return item.is_(Role.TOTAL_OF) or (not percent and item.text.lower() == "to")
