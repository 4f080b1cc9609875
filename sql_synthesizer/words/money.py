"""Revenue, sales, spending: words for an amount that a schema adds up of its fact tables, rather than names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sql_synthesizer.words.keys import FAR, KeyGraph
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.names import parts
from sql_synthesizer.words.query import ColumnRef, Target
from sql_synthesizer.words.roles import Role
from sql_synthesizer.words.roots import says_table
from sql_synthesizer.words.shapes import Shapes
from sql_synthesizer.words.tokens import stem


def _stems(words: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words.split())


_NOUNS: Final = _stems("revenue sales turnover spending expenditure proceeds takings earnings")
_VERBS: Final = _stems("spent earned paid grossed")
_COINS: Final = _stems("money dollars euros cash")
_AMOUNT: Final = _stems("total amount sum revenue sales turnover payment paid proceeds")
_BESIDE: Final = _stems("grand net gross due price cost value order invoice sale purchase payment line item usd eur")
_PRICE: Final = _stems("price")
_PRICED: Final = _PRICE | _stems("unit sale sales selling each item net gross")
_PIECES: Final = _stems("quantity units")
_COUNTED: Final = _PIECES | _stems("sold order ordered item unit")
_LINES: Final = _stems("line item detail sale order purchase")
TOTALS: Final = {"total", "amount", "total amount", "overall", "sum", "sum of", "total amount of", "total value of"}
_NEAR_EQUAL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Money:
    """What the words for an amount come to.

    Attributes:
        items: of the question; those words have their measure.
        others: the same with other measures that are as likely.
        words: as written, "" where there are none.
    """

    items: Sequence[Item]
    others: tuple[Sequence[Item], ...] = ()
    words: str = ""


class Amounts:
    """The sums of one schema that a word for revenue may mean."""

    def __init__(self, shapes: Shapes, graph: KeyGraph) -> None:
        """Find the amounts once."""
        self._graph = graph
        self._all = [target for table in shapes.schema.tables for target in _amounts(table, shapes, graph)]

    def measured(self, items: Sequence[Item]) -> Money:
        """Return the items with what their words for an amount are the sum of; unchanged where no sum is at hand."""
        at = next((n for n, item in enumerate(items) if _says_money(items, item)), None)
        if at is None:
            return Money(items)
        likely = self._likely(items)
        if not likely:
            return Money(items)
        first, *others = [_with_measure(items, at, target) for target in likely]
        return Money(first, tuple(others), items[at].text)

    def _likely(self, items: Sequence[Item]) -> list[Target]:
        """Return the sums that are nearest to what the question names, without doubling a row; near-equal ones all."""
        needed = [homes for item in items if (homes := _homes(item))]
        costs = {target: sum(self._cost(target.home, homes) for homes in needed) for target in self._all}
        able = {target: cost for target, cost in costs.items() if cost < FAR}
        least = min(able.values(), default=0.0)
        near = [target for target, cost in able.items() if cost - least < _NEAR_EQUAL]
        return sorted(
            (t for t in near if not any(self._adds_up(t.home, other.home) for other in near)), key=able.__getitem__
        )

    def _cost(self, table: str, homes: set[str]) -> float:
        return min(FAR if (way := self._to_one(table, home)) is None else way for home in homes)

    def _to_one(self, table: str, home: str) -> float | None:
        if table == home:
            return 0.0
        way = self._graph.path((table,), home)
        return sum(step.cost for step in way) if way and all(step.to_one for step in way) else None

    def _adds_up(self, lines: str, header: str) -> bool:
        """Whether rows of one table are the lines of another's rows, whose total is theirs."""
        back = any(step.target == lines and step.to_one for step in self._graph.steps(header))
        return lines != header and not back and any(s.target == header and s.to_one for s in self._graph.steps(lines))


def _amounts(table: str, shapes: Shapes, graph: KeyGraph) -> list[Target]:
    numbers = shapes.numbers(table)
    own = {stem(word) for word in parts(table)}
    words = {ref: shapes.words(ref) for ref in numbers}
    amounts = [ref for ref, said in words.items() if said & _AMOUNT and said - own <= _AMOUNT | _BESIDE]
    if amounts:
        return [Target(ref, "sum") for ref in amounts]
    refers = len({step.target for step in graph.steps(table) if step.to_one})
    prices = [ref for ref, said in words.items() if said & _PRICE and said - own <= _PRICED]
    pieces = [ref for ref, said in words.items() if said & _PIECES and said - own <= _COUNTED]
    if prices and pieces and (refers > 1 or (refers and own & _LINES)):
        return [Target(prices[0], "sum", times=pieces[0])]
    return []


def _says_money(items: Sequence[Item], item: Item) -> bool:
    """Whether a word that no name of the schema explains is one for an amount."""
    if item.op or item.names or item.values or item.quoted or item.number is not None:
        return False
    if stem(item.text) in _NOUNS:
        return True
    measured = any(other.columns and other.table is None and other.text.lower() not in TOTALS for other in items)
    return stem(item.text) in _VERBS and (not measured or _ranks_by(items, item))


def _ranks_by(items: Sequence[Item], verb: Item) -> bool:
    """Whether "the most" stands right after a verb."""
    after = [item.op for item in items if item.is_(Role.SUPERLATIVE) and 0 <= item.start - verb.end <= 1]
    return any(op is not None and op.word in {"most", "least"} for op in after)


def _homes(item: Item) -> set[str]:
    """Return the tables of which one has to be met for an item."""
    if item.op is not None or item.text.lower() in TOTALS:
        return set()
    table = says_table(item)
    if table is not None:
        return {table}
    return {name.table for name, score in item.columns if score >= 0.9} | {value.table for value in item.values}


def _with_measure(items: Sequence[Item], at: int, target: Target) -> list[Item]:
    """Give an item its measure; words that only say again that it is a sum of money go."""
    kept = []
    for n, item in enumerate(items):
        total = abs(n - at) == 1 and item.text.lower() in TOTALS
        coin = n != at and not (item.op or item.names or item.values) and stem(item.text) in _COINS | _NOUNS | _VERBS
        listed = n > at and coin and items[n - 1].is_(Role.AND, Role.THEIR, Role.ALSO)
        if n == at or listed:
            kept.append(replace(item, measure=target, literal=None))
        elif not total and not coin:
            kept.append(item)
    return kept


def by_measure(items: Sequence[Item]) -> str | None:
    """Return the table whose rows a measured question is about, where it is not the one that it ranks."""
    at = next((n for n, item in enumerate(items) if item.measure is not None), None)
    if at is None:
        return None
    target = items[at].measure
    assert target is not None  # it was looked for
    named = any(
        says_table(item) not in {None, target.home} and not (n > 0 and items[n - 1].is_(Role.EACH))
        for n, item in enumerate(items[:at])
    )
    return None if named and _ranked(items, at) else target.home


def _ranked(items: Sequence[Item], at: int) -> bool:
    by = at > 0 and (items[at - 1].is_(Role.ORDER) or items[at - 1].text.lower() == "by")
    compared = at + 1 < len(items) and items[at + 1].is_(Role.COMPARE)
    return by or compared or any(item.is_(Role.TOP, Role.SUPERLATIVE, Role.POPULAR) for item in items)


def what(target: Target) -> str:
    """Return a sum as words of SQL."""
    assert target.column is not None  # a sum is of a column
    times = f" * {target.times.column}" if target.times else ""
    return f"SUM({target.column.table}.{target.column.column}{times})"


def additive(shapes: Shapes, ref: ColumnRef) -> bool:
    """Whether the numbers of a column may be added up over rows."""
    return not shapes.words(ref) & _LEVELS


_LEVELS: Final = _stems(
    "price rate rating score percent percentage average ratio age year date height width temperature rank position "
    "grade level latitude longitude altitude elevation density minimum maximum"
)
