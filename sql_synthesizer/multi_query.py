"""A set of statements, run so that they share work: entangled plans, in the words of `docs/sql-quantum.md`.

What two or more statements have in common (`sql_synthesizer.sharing`) may be kept once and read by all. Which parts are
kept, and which of them a block of a statement reads, is one plan selection (`sql_synthesizer.quantum.selection`): each
block takes one of its plans, by itself or with one part; each part is kept or not. A block's plan with a part saves the
difference only if the part is kept, so the choices of all who share it are coupled. All is exactly quadratic, also
where three or more share a part.

Costs are estimated in rows that are scanned; the answer tells the times that were measured.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from sqlglot import exp

from quantum_db.errors import QuantumDBError, Unavailable
from sql_synthesizer.engines.ports import Engine, Limits, Rows, Session, SharingEngine
from sql_synthesizer.guard.binding import bound
from sql_synthesizer.guard.check import Checked
from sql_synthesizer.quantum.selection import DEFAULT, PlanChoice, Schedule, SelectionResult, select
from sql_synthesizer.row_estimates import RowEstimates
from sql_synthesizer.schema import Schema
from sql_synthesizer.sharing import Block, SharedPart, blocks_of, read_from, shared_parts

logger = logging.getLogger(__name__)

DIALECT: Final = "duckdb"
"""Of the one engine that has sessions."""

WRITE: Final = 3.0
"""What it costs to keep one value, in rows that are scanned; this and the next measured on DuckDB, 10^6 rows."""
HASH: Final = 5.0
"""What a row costs that goes into a join, in rows that are scanned."""
START: Final = 20_000.0
"""What it costs to keep anything at all, in rows that are scanned: about half a millisecond."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchPlan:
    """What will run.

    Attributes:
        statements: as they were checked, in the caller's order.
        parts: that are kept, by the name of their table.
        uses: for each statement, by place of the SELECT, the name of what it reads.
        selection: how it was chosen; None where nothing is shared, so that there was nothing to choose.
        candidates: shared parts that were found.
    """

    statements: tuple[Checked, ...]
    parts: dict[str, SharedPart]
    uses: tuple[dict[int, str], ...]
    selection: SelectionResult | None
    candidates: int


@dataclass(frozen=True, slots=True)
class KeptPart:
    """A part that was computed once.

    Attributes:
        readers: how many blocks read it.
        rows: that were kept; None where it could not be kept, and all ran by themselves.
    """

    tables: tuple[str, ...]
    predicates: tuple[str, ...]
    readers: int
    rows: int | None
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """One statement's answer: its rows or its error, what was run, and the tables of kept parts that it read."""

    sql: str
    rows: Rows | None
    error: QuantumDBError | None
    read: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """All answers, in the order of the statements.

    Attributes:
        estimated_reduction: the share of the estimated cost that sharing saves, 0 to 1.
        elapsed_ms: of running everything, parts included.
    """

    answers: tuple[BatchAnswer, ...]
    kept: tuple[KeptPart, ...]
    estimated_reduction: float
    proven: bool
    elapsed_ms: float


def plan_batch(
    statements: Sequence[Checked],
    schema: Schema,
    rng: np.random.Generator,
    schedule: Schedule = DEFAULT,
    timeout_s: float = 1.0,
) -> BatchPlan:
    """Choose which shared parts are kept, and who reads them; nothing is run."""
    blocks = [block for place, checked in enumerate(statements) for block in blocks_of(place, checked)]
    parts = shared_parts(blocks)
    nothing: tuple[dict[int, str], ...] = tuple({} for _ in statements)
    if not parts:
        return BatchPlan(tuple(statements), {}, nothing, None, 0)
    problem, plans = _choice(blocks, parts, RowEstimates(schema))
    found = select(problem, rng, schedule, timeout_s)
    kept = {p: f"shared_{p + 1}" for p in range(len(parts)) if found.choice.plans[len(blocks) + p] == 1}
    readers: dict[int, int] = dict.fromkeys(kept, 0)
    for block, taken, own in zip(blocks, found.choice.plans, plans, strict=False):
        if own[taken] in kept:
            nothing[block.statement][block.place] = kept[own[taken]]
            readers[own[taken]] += 1
    named = {name: parts[p] for p, name in kept.items() if readers[p]}
    return BatchPlan(tuple(statements), named, nothing, found, len(parts))


def run_batch(engine: Engine, plan: BatchPlan, limits: Limits) -> BatchResult:
    """Run a plan; a statement that fails has its error in its answer, and the others go on.

    Where the engine has no sessions, or a part cannot be kept, statements run by themselves.

    Args:
        limits: of each statement, and of each part.

    Raises:
        Unavailable: the database does not answer at all.
    """
    begun = time.perf_counter()
    kept: list[KeptPart] = []
    if plan.parts and isinstance(engine, SharingEngine):
        with engine.session(limits.timeout_s * (len(plan.parts) + len(plan.statements))) as session:
            there = {name for name in plan.parts if _keep(session, plan, name, limits, kept)}
            answers = [
                _answer(session, checked, {place: name for place, name in uses.items() if name in there}, plan, limits)
                for checked, uses in zip(plan.statements, plan.uses, strict=True)
            ]
    else:
        answers = [_alone(engine, checked, limits) for checked in plan.statements]
    reduction = plan.selection.reduction if kept and plan.selection is not None else 0.0
    proven = plan.selection is None or plan.selection.proven
    return BatchResult(tuple(answers), tuple(kept), reduction, proven, (time.perf_counter() - begun) * 1e3)


def _choice(
    blocks: Sequence[Block], parts: Sequence[SharedPart], estimates: RowEstimates
) -> tuple[PlanChoice, list[list[int]]]:
    """Return the selection, and for each block the part of each of its plans; -1 is none."""
    costs: list[list[float]] = []
    plans: list[list[int]] = []
    savings: dict[tuple[tuple[int, int], tuple[int, int]], float] = {}
    for place, block in enumerate(blocks):
        own = [-1, *(p for p, shared in enumerate(parts) if place in shared.users)]
        plans.append(own)
        alone = [_inline(block, shared, estimates) for shared in parts if place in shared.users]
        # A block's cost by itself is the same whichever part it might read: that of its largest part is taken for it.
        base = max(alone, default=0.0)
        costs.append([base] * len(own))
        for number, inline in enumerate(alone, start=1):
            part = own[number]
            read = estimates.joined(parts[part].part.tables, parts[part].predicates)
            savings[(place, number), (len(blocks) + part, 1)] = inline - read
    for shared in parts:
        scanned = sum(map(estimates.table, shared.part.tables))
        kept = estimates.joined(shared.part.tables, shared.predicates)
        joined = HASH * _into_joins(shared.part.tables, shared.predicates, estimates)
        costs.append([0.0, START + scanned + joined + WRITE * kept * (1 + len(shared.columns))])
    return PlanChoice.build(costs, savings), plans


def _inline(block: Block, shared: SharedPart, estimates: RowEstimates) -> float:
    """Return what a block pays for the tables of a part where it computes them itself, its own predicates with them."""
    tables = shared.part.tables
    inside = [p for p in block.predicates.values() if {c.table for c in p.find_all(exp.Column)} <= set(tables)]
    scanned = sum(map(estimates.table, tables))
    return scanned + HASH * _into_joins(tables, inside, estimates) + estimates.joined(tables, inside)


def _into_joins(tables: Sequence[str], predicates: Sequence[exp.Expr], estimates: RowEstimates) -> float:
    """Return the rows that go into joins: those that the tables' own filters leave; 0 for one table."""
    if len(tables) < 2:
        return 0.0
    total = 0.0
    for table in tables:
        own = [p for p in predicates if {column.table for column in p.find_all(exp.Column)} == {table}]
        total += estimates.joined([table], own)
    return total


def _keep(session: Session, plan: BatchPlan, name: str, limits: Limits, kept: list[KeptPart]) -> bool:
    shared, begun = plan.parts[name], time.perf_counter()
    readers = sum(name in uses.values() for uses in plan.uses)
    rows: int | None = None
    try:
        rows = session.keep(name, *bound(shared.query, DIALECT), limits.timeout_s)
    except Unavailable:
        raise
    except QuantumDBError as error:
        logger.warning("a shared part of %s is not kept: %s", ", ".join(shared.part.tables), error)
    elapsed_ms = (time.perf_counter() - begun) * 1e3
    kept.append(KeptPart(shared.part.tables, shared.part.predicates, readers, rows, elapsed_ms))
    return rows is not None


def _answer(session: Session, checked: Checked, uses: dict[int, str], plan: BatchPlan, limits: Limits) -> BatchAnswer:
    sql, parameters = checked.sql, checked.parameters
    if uses:
        tree = read_from(checked, {place: (plan.parts[name], name) for place, name in uses.items()})
        sql, parameters = bound(tree, DIALECT)
    try:
        return BatchAnswer(sql, session.run(sql, parameters, limits), None, tuple(sorted(set(uses.values()))))
    except Unavailable:
        raise
    except QuantumDBError as error:
        return BatchAnswer(sql, None, error, ())


def _alone(engine: Engine, checked: Checked, limits: Limits) -> BatchAnswer:
    try:
        return BatchAnswer(checked.sql, engine.run(checked.sql, checked.parameters, limits), None, ())
    except Unavailable:
        raise
    except QuantumDBError as error:
        return BatchAnswer(checked.sql, None, error, ())
