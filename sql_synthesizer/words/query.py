"""What a question asks for, before it is SQL: phrases about the rows of tables, and what is told of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ColumnRef:
    """A column of a table."""

    table: str
    column: str


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to show, order by or compare.

    Attributes:
        column: None for the rows of ``table``.
        function: "count", "sum", "avg", "min", "max", or "" for the column itself.
        table: whose rows are counted, where ``column`` is None.
        distinct: whether equal values count once.
        times: another column of the same table with which each value is multiplied.
    """

    column: ColumnRef | None = None
    function: str = ""
    table: str = ""
    distinct: bool = False
    times: ColumnRef | None = None

    @property
    def aggregated(self) -> bool:
        """Whether it is one number for many rows."""
        return self.function in {"count", "sum", "avg", "min", "max"}

    @property
    def home(self) -> str:
        """The table that must be joined for it."""
        return self.column.table if self.column else self.table


@dataclass(frozen=True, slots=True)
class Between:
    """Two bounds, both included."""

    low: float | str
    high: float | str


@dataclass(frozen=True, slots=True)
class Within:
    """A span of time from a date up to but without another, as ISO text."""

    start: str
    end: str


@dataclass(slots=True)
class Statistic:
    """A value that has to be asked for: an aggregate or a column of some phrase's rows."""

    target: Target
    phrase: Phrase


Operand = float | str | bool | Between | Within | Statistic | ColumnRef | None


@dataclass(slots=True)
class Condition:
    """A comparison of a column; ``op`` is one of = != < <= > >= in between within like null."""

    column: ColumnRef
    op: str
    operand: Operand
    negated: bool = False


@dataclass(slots=True)
class Member:
    """A condition on the rows of another phrase that belong to this one's: some, none, or so many.

    Attributes:
        phrase: the other rows.
        negated: there is none.
        op: compares their number, or ``target`` over them, with ``operand``; "" asks for one at least.
        target: what is compared, where it is not their number.
    """

    phrase: Phrase
    negated: bool = False
    op: str = ""
    operand: float = 0.0
    target: Target | None = None


@dataclass(slots=True)
class Ranking:
    """The first rows by an order; ``limit`` None orders only."""

    target: Target
    descending: bool
    limit: int | None = 1


Clause = Condition | Member


@dataclass(slots=True)
class Phrase:
    """Rows of a table.

    Attributes:
        table: whose rows.
        clauses: all hold; of those in one list at least one does.
        ranking: only the first by this order.
    """

    table: str
    clauses: list[list[Clause]] = field(default_factory=list)
    ranking: Ranking | None = None

    def plain(self) -> bool:
        """Whether it says no more than the table."""
        return not self.clauses and self.ranking is None


@dataclass(slots=True)
class Query:
    """A whole question.

    Attributes:
        phrase: the rows it is about.
        targets: what is shown of them.
        groups: columns by whose values the rows are put together.
        group_tables: tables by whose rows they are.
        having: conditions on groups: what, how, with what.
        order: by what, and whether from high to low.
        limit: how many rows, None for all.
        distinct: whether equal rows are shown once.
        both: conditions of which each must be met by some row that shows the same.
    """

    phrase: Phrase
    targets: list[Target] = field(default_factory=list)
    groups: list[ColumnRef] = field(default_factory=list)
    group_tables: list[str] = field(default_factory=list)
    having: list[tuple[Target, str, float | Statistic]] = field(default_factory=list)
    order: list[tuple[Target, bool]] = field(default_factory=list)
    limit: int | None = None
    distinct: bool = False
    both: list[Clause] = field(default_factory=list)
