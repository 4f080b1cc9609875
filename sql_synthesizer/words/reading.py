"""From a question to a statement with the reasons for it, or to a question back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sqlglot import exp

from quantum_db.errors import InvalidRequest
from sql_synthesizer.schema import Schema
from sql_synthesizer.words.compiling import Compiler
from sql_synthesizer.words.confidence import THRESHOLD, confidence, features
from sql_synthesizer.words.keys import KeyGraph
from sql_synthesizer.words.linking import Item, Linker
from sql_synthesizer.words.money import Amounts, Money, what
from sql_synthesizer.words.names import Names
from sql_synthesizer.words.parsing import read
from sql_synthesizer.words.query import ColumnRef
from sql_synthesizer.words.ratios import Ratio, ratio_of
from sql_synthesizer.words.refusing import carrying, order_to_write
from sql_synthesizer.words.scopes import Unreachable
from sql_synthesizer.words.shapes import Shapes
from sql_synthesizer.words.state import Link, State
from sql_synthesizer.words.tokens import Token, tokenize
from sql_synthesizer.words.values import ValueIndex

MAX_QUESTION: Final = 1_000
MAX_RIVALS: Final = 3
CLOSE: Final = 0.05
"""Two readings whose confidences differ by less are near-equal."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A statement that a question was read as.

    Attributes:
        tree: its syntax tree.
        sql: the same in the schema's dialect.
        links: which words were taken for what, and why.
        confidence: the estimated probability that it is what was meant.
        unknown: words that nothing was known of.
        features: from which the confidence was told.
    """

    tree: exp.Query
    sql: str
    links: tuple[Link, ...]
    confidence: float
    unknown: tuple[str, ...] = ()
    features: Mapping[str, float] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Unclear:
    """A question back.

    Attributes:
        question: to ask.
        readings: the likely ones, best first; one or none where nothing else comes near.
    """

    question: str
    readings: tuple[Reading, ...] = ()


class WordsReader:
    """Reads questions against one schema; what takes time to know of it is known once. Safe to share by threads."""

    def __init__(self, schema: Schema, values: ValueIndex | None = None, *, threshold: float = THRESHOLD) -> None:
        """Prepare for a schema.

        Args:
            schema: of the database.
            values: None takes those that the schema keeps.
            threshold: a confidence below it asks back.
        """
        self._schema = schema
        self._shapes = Shapes(schema)
        self._graph = KeyGraph(schema)
        self._names = Names(schema)
        self._amounts = Amounts(self._shapes, self._graph)
        self._linker = Linker(self._names, ValueIndex(schema) if values is None else values)
        self._threshold = threshold

    def read(self, question: str) -> Reading | Unclear:
        """Return the statement that a question means, or a question back where that is not sure.

        Raises:
            InvalidRequest: the question is empty, or longer than ``MAX_QUESTION`` characters.
        """
        if not question.strip():
            raise InvalidRequest.at("question", "it is empty; ask for rows, numbers or names of the database")
        if len(question) > MAX_QUESTION:
            raise InvalidRequest.at("question", f"{len(question)} characters are more than {MAX_QUESTION}")
        tokens = tokenize(question)
        verb = order_to_write(tokens, self._names)
        if verb is not None:
            return Unclear(f'Nothing is ever changed here, so "{verb}" did nothing. Ask for rows, numbers or names.')
        money = self._amounts.measured(self._linker.items(tokens))
        best, state = self._reading(money.items, tokens)
        unknown = carrying(money.items)
        if unknown:
            return Unclear(_unknown(unknown), () if best is None else (best,))
        if best is None:
            return Unclear("I find nothing of this database in the question. Which table or column is it about?")
        if money.others:
            return self._which_amount(best, money, tokens)
        return self._sure(money.items, tokens, best, state)

    def _sure(
        self, items: Sequence[Item], tokens: Sequence[Token], best: Reading, state: State | None
    ) -> Reading | Unclear:
        """Return the best reading, or a question back where it waits for one, is unsure or another comes near."""
        if state is not None and state.asked:
            return Unclear(state.asked, (best,))
        others = self._rivals(items, tokens, state, best) if state is not None else []
        close = [other for other in others if best.confidence - other.confidence < CLOSE]
        if best.confidence >= self._threshold and not close:
            return best
        return Unclear(_ask(best, close[0] if close else None), (best, *(close or others)[:1]))

    def _which_amount(self, best: Reading, money: Money, tokens: Sequence[Token]) -> Unclear:
        """Ask which of several sums is meant."""
        sides = (money.items, *money.others)[:MAX_RIVALS]
        sums = [what(item.measure) for items in sides for item in items if item.measure is not None]
        others = [reading for items in sides[1:] if (reading := self._reading(items, tokens)[0]) is not None]
        return Unclear(f'By "{money.words}", did you mean {" or ".join(sums)}?', (best, *others))

    def _reading(self, items: Sequence[Item], tokens: Sequence[Token]) -> tuple[Reading | None, State | None]:
        said = {token.stem for token in tokens}
        compiler = Compiler(self._shapes, self._graph, said)
        ratio = ratio_of(items)
        try:
            if ratio is not None:
                return self._ratio(ratio, compiler), None
            state = read(items, self._shapes, self._graph)
            if state is None:
                return None, None
            tree = compiler.query(state.query)
        except Unreachable:
            return None, None
        return self._told(tree, (state,), items), state

    def _ratio(self, ratio: Ratio, compiler: Compiler) -> Reading | None:
        states = [read(items, self._shapes, self._graph) for items in ratio.sides]
        known = [state for state in states if state is not None]
        if len(known) != len(states):
            return None
        return self._told(ratio.compiled(known, compiler), known, [item for items in ratio.sides for item in items])

    def _told(self, tree: exp.Query, states: Sequence[State], items: Sequence[Item]) -> Reading:
        found = min((features(state, tree) for state in states), key=confidence)
        links = tuple(link for state in states for link in state.links)
        unknown = tuple(dict.fromkeys(item.text for item in items if item.unknown))
        return Reading(tree, tree.sql(self._schema.dialect), links, confidence(found), unknown, found)

    def _rivals(self, items: Sequence[Item], tokens: Sequence[Token], state: State, best: Reading) -> list[Reading]:
        """Return the readings in which one ambiguous phrase is taken for the next best thing, where they differ."""
        found = []
        for item, ref in state.rivals[:MAX_RIVALS]:
            other, _ = self._reading([_without(one, ref) if one is item else one for one in items], tokens)
            if other is not None and other.sql != best.sql:
                found.append(other)
        return sorted(found, key=lambda reading: -reading.confidence)


def _without(item: Item, ref: ColumnRef) -> Item:
    """Return an item that cannot be taken for one column, nor for a value of it."""
    return replace(
        item,
        names=tuple(pair for pair in item.names if (pair[0].table, pair[0].column) != (ref.table, ref.column)),
        values=tuple(v for v in item.values if (v.table, v.column) != (ref.table, ref.column)),
    )


def _ask(best: Reading, other: Reading | None) -> str:
    if other is None:
        if best.unknown:
            return f"{_unknown(best.unknown)} Did you mean: {best.sql}?"
        return f"I am not sure. Did you mean: {best.sql}?"
    ours, theirs = {link.words: link for link in best.links}, {link.words: link for link in other.links}
    for words, link in ours.items():
        if words in theirs and theirs[words].what != link.what:
            return f'By "{words}", did you mean {link.what} or {theirs[words].what}?'
    return f"Did you mean: {best.sql}, or: {other.sql}?"


def _unknown(words: Sequence[str]) -> str:
    return f"I do not know what {_quoted(words)} means here."


def _quoted(words: Sequence[str]) -> str:
    return " and ".join(f'"{word}"' for word in words[:3])


def to_sql(question: str, schema: Schema, values: ValueIndex | None = None) -> Reading | Unclear:
    """Read one question; for many over one schema keep a ``WordsReader``."""
    return WordsReader(schema, values).read(question)
