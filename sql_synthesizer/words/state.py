"""What a reader knows at a word: the query so far, what the next words attach to, and what is still open."""

from __future__ import annotations

import calendar
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field

from sql_synthesizer.schema import ColumnKind
from sql_synthesizer.words.keys import FAR, KeyGraph
from sql_synthesizer.words.linking import Item
from sql_synthesizer.words.query import Clause, ColumnRef, Condition, Member, Phrase, Query, Target
from sql_synthesizer.words.roles import Role
from sql_synthesizer.words.roots import says_table
from sql_synthesizer.words.shapes import Shapes
from sql_synthesizer.words.values import StoredValue


@dataclass(frozen=True, slots=True)
class Link:
    """Which words of a question were taken for what.

    Attributes:
        words: as written.
        kind: "table", "column", "value", "number" or "rule".
        what: the table, ``table.column``, ``table.column = value``, or what the words do.
        why: in a few words.
        score: how sure, 0 to 1.
    """

    words: str
    kind: str
    what: str
    why: str
    score: float


@dataclass
class State:
    """A question half read.

    Attributes:
        items: of the question.
        shapes: of the tables.
        graph: of the keys.
        query: so far.
        open: phrases that words may attach to, the last one first in line.
        at: the item that is read.
        head: whether names are asked for, rather than told about.
        functions: aggregates that wait for a column.
        counting: whether the next name is counted; "sum" where totals are asked for.
        distinct: whether the next name is asked for without repetition.
        negated: whether the next condition is denied.
        either: whether the next condition is an alternative to the last one.
        both: whether the next conditions must each be met.
        limit: rows asked for, before it is known by which order.
        last: a column that waits for a comparison.
        last_item: the item of ``last``.
        measured: an aggregate that waits for a comparison.
        counted: a table whose rows were counted and wait for a comparison.
        links: what was taken for what.
        said: whether the question says the current phrase's table in words.
        where: words of the columns that say where, if that is asked for.
        rivals: phrases that could nearly as well be taken for something else, and what they were taken for.
        doubts: what had to be guessed, each costing confidence.
        asked: a question without whose answer nothing may be answered, "" for none.
    """

    items: Sequence[Item]
    shapes: Shapes
    graph: KeyGraph
    query: Query
    open: list[Phrase] = field(default_factory=list)
    at: int = 0
    head: bool = True
    functions: list[str] = field(default_factory=list)
    counting: str = ""
    distinct: bool = False
    negated: bool = False
    either: bool = False
    both: bool = False
    limit: int | None = None
    last: ColumnRef | None = None
    last_item: int = -9
    measured: Target | None = None
    counted: str = ""
    top: bool | None = None
    grouped: list[int] = field(default_factory=list)
    said: bool = False
    where: tuple[str, ...] = ()
    rivals: list[tuple[Item, ColumnRef]] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    asked: str = ""

    @property
    def current(self) -> Phrase:
        """The phrase that words attach to."""
        return self.open[-1]

    def item(self, ahead: int = 0) -> Item | None:
        """Return an item relative to the one that is read; None beyond the ends."""
        at = self.at + ahead
        return self.items[at] if 0 <= at < len(self.items) else None

    def next_is(self, *roles: Role, ahead: int = 1) -> bool:
        """Whether an item ahead does one of these."""
        item = self.item(ahead)
        return item is not None and item.is_(*roles)

    def tables(self) -> list[str]:
        """Return the tables of the open phrases, the nearest first."""
        return list(dict.fromkeys([phrase.table for phrase in reversed(self.open)]))

    def link(self, item: Item, kind: str, what: str, why: str, score: float) -> None:
        """Remember what an item was taken for."""
        self.links.append(Link(item.text, kind, what, why, round(score, 3)))

    def phrase_of(self, table: str) -> Phrase | None:
        """Return the nearest open phrase about a table."""
        return next((phrase for phrase in reversed(self.open) if phrase.table == table), None)

    def near(self, table: str) -> float:
        """Return how far a table is from what is being read: 0 for the current one."""
        tables = self.tables()
        if table in tables:
            return 0.0 if table == tables[0] else 0.5
        return min(self.graph.distance(other, table) + 0.2 * at for at, other in enumerate(tables))

    def column(self, item: Item, *, measure: bool = False) -> ColumnRef | None:
        """Return the column that an item says, the nearest of the likely ones, and link it."""
        preferred = self.whose(item)
        best: tuple[float, ColumnRef, float] | None = None
        rivals = 0
        for name, score in item.columns:
            assert name.column is not None  # columns have names
            ref = ColumnRef(name.table, name.column)
            amiss = measure and not self.shapes.measures(self.shapes.column(ref))
            worth = (
                score
                - (0.3 if amiss else 0.0)
                - 0.12 * min(self.near(name.table), 5.0)
                + (0.7 if name.table == preferred else 0.0)
            )
            if best is None or worth > best[0] + 1e-9:
                rivals = 0 if best is None or worth > best[0] + 0.08 else rivals
                best = (worth, ref, score)
            elif worth > best[0] - 0.03:
                rivals += 1
        if best is None:
            return None
        if rivals:
            self.doubts.append("column")
            self.rivals.append((item, best[1]))
        if self.near(best[1].table) >= 2.5:
            self.doubts.append("far")
        self.link(
            item,
            "column",
            f"{best[1].table}.{best[1].column}",
            "the name" if best[2] >= 0.95 else "a like name",
            best[2],
        )
        return best[1]

    def whose(self, item: Item) -> str | None:
        """Return the table whose column is meant by "... of the leagues", "its ..."."""
        at = next((n for n, other in enumerate(self.items) if other is item), self.at)
        if at > 0 and self.items[at - 1].is_(Role.THEIR) and self.query.group_tables:
            return self.query.group_tables[-1]
        if at + 1 >= len(self.items) or not self.items[at + 1].is_(Role.OF):
            return None
        after = [other for other in self.items[at + 2 : at + 4] if not other.is_(Role.THEIR, Role.DISTINCT, Role.EACH)]
        return says_table(after[0]) if after else None

    def add(self, clause: Clause) -> None:
        """Attach a condition to the phrase that it is about, as pending words ask."""
        if isinstance(clause, Condition):
            phrase = self.phrase_of(clause.column.table) or self.current
            clause.negated = clause.negated or self.negated
        else:
            phrase = min(reversed(self.open), key=lambda p: round(self.graph.distance(p.table, clause.phrase.table), 1))
            clause.negated = clause.negated or self.negated
        self.negated = False
        if self.both and isinstance(clause, Condition):
            self.query.both.append(clause)
        elif (self.either and phrase.clauses) or self._alternative(phrase, clause):
            phrase.clauses[-1].append(clause)
        else:
            phrase.clauses.append([clause])
        self.either = False
        self.last = None

    def _alternative(self, phrase: Phrase, clause: Clause) -> bool:
        """Whether a value of the same column as the one before stands for another possibility ("in Paris and Rome")."""
        if not phrase.clauses or not isinstance(clause, Condition) or clause.op != "=" or clause.negated:
            return False
        before = phrase.clauses[-1][-1]
        joined = self.item(-1) is not None and self.next_is(Role.AND, Role.OR, ahead=-1)
        return (
            joined and isinstance(before, Condition)
            and before.column == clause.column and before.op == "=" and not before.negated
        )  # fmt: skip

    def told(self) -> list[Condition]:
        """Return the conditions of the open phrases."""
        clauses = [clause for phrase in self.open for either in phrase.clauses for clause in either]
        return [clause for clause in clauses if isinstance(clause, Condition)]

    def enter(self, table: str) -> Phrase:
        """Open a phrase about a table's rows, or go back to the one that is open."""
        known = self.phrase_of(table)
        if known is not None and not self.negated:
            while self.open[-1] is not known:
                self.open.pop()
            return known
        if all(self.graph.distance(other, table) >= FAR for other in self.tables()):
            self.doubts.append("unreachable")
            return self.current
        phrase = Phrase(table)
        self.said = True
        self.add(Member(phrase))
        self.open.append(phrase)
        return phrase

    def target(self, target: Target) -> None:
        """Show something more."""
        if target not in self.query.targets:
            self.query.targets.append(target)

    def value(self, found: Sequence[StoredValue]) -> StoredValue:
        """Return the stored value that fits best where the reader is."""

        def worth(stored: StoredValue) -> float:
            ref = ColumnRef(stored.table, stored.column)
            own = ref in self.shapes.display(stored.table) and self.shapes.tells_apart(ref)
            inside = self.next_is(Role.IN, ahead=-1) and ref in self.shapes.display(self.current.table)
            score = stored.score - 0.12 * min(self.near(stored.table), 5.0)
            return (
                score + (0.1 if own else 0.0) - (0.3 if inside and self.said else 0.0) - (0.4 if ref in told else 0.0)
            )

        joined = self.next_is(Role.AND, Role.OR, ahead=-1)
        told = set() if joined else {c.column for c in self.told() if c.op == "=" and not c.negated}
        ranked = sorted(found, key=worth, reverse=True)
        if len(ranked) > 1 and worth(ranked[0]) - worth(ranked[1]) < 0.05:
            self.doubts.append("value")
            here = next((item for item in self.items if item.values and found[0] in item.values), None)
            if here is not None:
                self.rivals.append((here, ColumnRef(ranked[0].table, ranked[0].column)))
        return ranked[0]


def span_of(text: str) -> tuple[str, str] | None:
    """Return the first day of a year or of a month (YYYY-MM), and the first day after it."""
    year, _, month = text.partition("-")
    if not month:
        return f"{int(year):04d}-01-01", f"{int(year) + 1:04d}-01-01"
    number = int(month)
    after = f"{int(year) + 1:04d}-01-01" if number == 12 else f"{int(year):04d}-{number + 1:02d}-01"
    return f"{int(year):04d}-{number:02d}-01", after


def next_day(day: str) -> str:
    """Return the day after one, both as YYYY-MM-DD."""
    return (dt.date.fromisoformat(day) + dt.timedelta(days=1)).isoformat()


MONTHS = {name.lower(): n for n, name in enumerate(calendar.month_name) if name}


def truth_column(state: State, ref: ColumnRef) -> bool:
    """Whether a column only says yes or no."""
    described = state.shapes.column(ref)
    if described.kind is ColumnKind.BOOLEAN:
        return True
    values = {value.lower() for value in described.values}
    return bool(values) and values <= {"y", "n", "yes", "no", "t", "f", "true", "false", "0", "1"}
