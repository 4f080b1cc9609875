"""What a query of the synthesizer gives back, as Python and as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from sql_synthesizer.agent import Reading
from sql_synthesizer.engines.ports import JsonValue, Rows
from sql_synthesizer.joins.optimizer import JoinPlan, Optimised
from sql_synthesizer.schema import ColumnKind

Basis = Literal["measured", "estimated", "none"]


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The answer to one question.

    Attributes:
        sql: the statement that the question became, in the engine's dialect, with its values in place.
        explanation: how words were understood; empty for SQL.
        columns, kinds, rows, truncated: as in ``Rows``.
        quantum_cost_reduction: the share of the cost of the engine's own plan that was saved, below 0 where it was a
            loss, 0 where the engine's own plan gave the rows.
        cost_basis: what it was told by: ``measured``, the times of both plans; ``estimated``, the rows that both are
            estimated to handle; ``none``, there is but one plan.
        optimization_time: seconds spent on counting, searching and on attempts that were given up.
        elapsed_ms: of the run that gave the rows; for a kept answer of the run that once gave them.
        forced: whether our join order gave the rows.
        reason: why the order was forced, or was not.
        mode: whose parameters held.
        cached: whether the answer was kept.
    """

    sql: str
    explanation: tuple[str, ...]
    columns: tuple[str, ...]
    kinds: tuple[ColumnKind, ...]
    rows: tuple[tuple[JsonValue, ...], ...]
    truncated: bool
    quantum_cost_reduction: float
    cost_basis: Basis
    optimization_time: float
    elapsed_ms: float
    forced: bool
    reason: str
    mode: str
    cached: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the same as JSON-ready values."""
        named = {name: getattr(self, name) for name in self.__slots__}
        return {
            **named,
            "columns": list(self.columns),
            "kinds": [*map(str, self.kinds)],
            "rows": [*map(list, self.rows)],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any], *, cached: bool) -> QueryResult:
        """Return what ``to_json`` has written. Raises KeyError, TypeError or ValueError for what it has not."""
        return cls(
            **{
                **value,
                "explanation": tuple(value["explanation"]),
                "columns": tuple(value["columns"]),
                "kinds": tuple(ColumnKind(kind) for kind in value["kinds"]),
                "rows": tuple(map(tuple, value["rows"])),
                "optimization_time": 0.0 if cached else value["optimization_time"],
                "cached": cached,
            }
        )


def result_of(reading: Reading, done: Optimised, mode: str) -> QueryResult:
    """Return the answer of an optimised run."""
    reduction, basis = reduction_of(done)
    plain = plain_result(reading, done.rows, mode)
    return replace(
        plain,
        quantum_cost_reduction=reduction,
        cost_basis=basis,
        optimization_time=max(0.0, done.total_ms - done.rows.elapsed_ms) / 1e3,
        forced=done.forced,
        reason=done.plan.reason,
    )


def plain_result(reading: Reading, rows: Rows, mode: str) -> QueryResult:
    """Return the answer of a run that nothing was optimised in."""
    return QueryResult(
        reading.sql,
        () if reading.translation is None else reading.translation.explanation,
        rows.columns,
        rows.kinds,
        rows.rows,
        rows.truncated,
        0.0,
        "none",
        0.0,
        rows.elapsed_ms,
        False,
        "optimisation is switched off",
        mode,
    )


def reduction_of(done: Optimised) -> tuple[float, Basis]:
    """Return the share of the engine's own cost that a run saved, and what it is told by."""
    if not done.forced:
        return 0.0, "none" if done.plan.tree is None else "measured"
    if done.own_ms is not None and done.forced_ms is not None and done.own_ms > 0.0:
        return 1.0 - done.forced_ms / done.own_ms, "measured"
    return estimated_reduction(done.plan), "estimated"


def estimated_reduction(plan: JoinPlan) -> float:
    """Return the same by estimates: by C_out of both plans, else by the gain that was predicted."""
    if plan.log_cost is not None and plan.own_log_cost is not None:
        return 1.0 - math.exp(min(0.0, plan.log_cost - plan.own_log_cost))
    return 0.0 if plan.gain is None or plan.gain <= 0.0 else max(0.0, 1.0 - 1.0 / plan.gain)
