"""Whether a join order is worth forcing: the engine's own plan and ours by the same counts, ours made to look worse.

C_out is not run time, and products of pairs are not the rows of larger joins. So every join of three relations and more
is taken as ``PESSIMISM`` times as large for each relation beyond two, for ``MOST`` at most, in our plan only; the root,
which is the same in both, is left out of that. What is read in any case, the relations' rows, is part of both. Where an
engine looks up row by row, what a look-up fetches before a filter drops it is what counts.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

import numpy as np
from sqlglot import exp

from sql_synthesizer.joins.extract import JoinBlock
from sql_synthesizer.joins.graph import JoinGraph, JoinTree, SetLogs, joins, leaves
from sql_synthesizer.joins.small import order_small
from sql_synthesizer.schema import Schema

PESSIMISM: Final = 2.0
MOST: Final = 3
"""Relations beyond two by which a join is made larger."""
FILTER: Final = 0.2
"""What a filter keeps by the rule of thumb that engines use where they have no histogram."""


def gain(graph: JoinGraph, own: JoinTree, ours: JoinTree) -> float:
    """Return how many times more rows the engine's own tree handles than ours, ours taken pessimistically.

    Where relations are looked up in, only the first is read as a whole.
    """
    return _handled(graph, own, 1.0) / _handled(graph, ours, PESSIMISM)


def presumed_tree(block: JoinBlock, schema: Schema, graph: JoinGraph) -> JoinTree | None:
    """Return the tree that an engine would choose by rows and distinct values alone, where its plan cannot be read."""
    rows = np.array([math.log(_presumed_rows(block, schema, alias)) for alias in graph.names])
    between = np.zeros_like(graph.log_selectivity)
    equal = [condition for read, condition in block.predicates if len(read) == 2]
    equal += [exp.EQ(this=a, expression=b) for group in block.classes for a, b in itertools.combinations(group, 2)]
    for condition in equal:
        columns = list(condition.find_all(exp.Column))
        i, j = (graph.names.index(alias) for alias in sorted({column.table for column in columns}))
        between[i, j] -= math.log(max(_distinct(block, schema, column) for column in columns)) + 1e-9
        between[j, i] = between[i, j]
    order = order_small(JoinGraph(graph.names, rows, between, graph.classes))
    return order.tree if order is not None else None


def _handled(graph: JoinGraph, tree: JoinTree, pessimism: float) -> float:
    rows, sets = np.exp(np.minimum(graph.log_rows, 700.0)), SetLogs(graph)
    first = next(leaves(tree))
    total = float(rows[first] * graph.fetched[first] if graph.fetched else rows.sum())
    for pair in joins(tree):
        members = list(leaves(pair))
        log = sets.log(sum(1 << member for member in members))
        if len(members) < graph.size:
            log += math.log(pessimism) * min(len(members) - 2, MOST)
        weight = graph.fetched[pair[1]] if graph.fetched and isinstance(pair[1], int) else 1.0
        total += weight * math.exp(min(log, 600.0))
    return total


def _presumed_rows(block: JoinBlock, schema: Schema, alias: str) -> float:
    table = schema.tables.get(block.sources[alias].name)
    rows = float(table.rows) if table is not None and table.rows else 1_000.0
    for condition in block.filters[alias]:
        equal = isinstance(condition, exp.EQ)
        rows *= 1.0 / _distinct(block, schema, next(condition.find_all(exp.Column))) if equal else FILTER
    return max(1.0, rows)


def _distinct(block: JoinBlock, schema: Schema, column: exp.Column) -> float:
    table = schema.tables.get(block.sources[column.table].name)
    known = table.columns.get(column.name) if table is not None else None
    return float(known.distinct) if known is not None and known.distinct else 200.0
