"""A left-deep join order as a QUBO over its prefixes, and its annealing.

``y[r, k] = 1`` where relation r is among the first k that are joined, for k = 2 ... n - 1: n (n - 2) bits. Since the
logarithm of a set's estimated rows is a sum over its relations and pairs of them, the sum over all prefixes

    sum_k log|prefix k|  =  sum_k ( sum_r log_rows[r] y[r, k] + sum_{r<s} log_selectivity[r, s] y[r, k] y[s, k] )

is *exactly* quadratic, and needs no further bits for predicates. What it is not is the cost: C_out is the sum of the
rows, and this is the logarithm of their product. An order that is best here need not be the cheapest; the benchmark
says how far it is off. Classical annealing of a classical function, as in `sql_synthesizer.quantum.onehot`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidRequest
from sql_synthesizer.joins.graph import JoinGraph, left_deep, log_c_out
from sql_synthesizer.quantum.onehot import Floats, Indices
from sql_synthesizer.quantum.prefixes import descend_order, exchange_change, quantum_orders, thermal_orders

Bits = NDArray[np.bool_]

DEFAULT: Final = ThermalSchedule(chains=8, sweeps=100, start=0.5, end=0.01)
MAX_RELATIONS: Final = 200


@dataclass(frozen=True, slots=True, eq=False)
class PrefixQubo:
    """Minimise ``linear @ y + 0.5 y @ quadratic @ y`` over the bits of orders.

    Bit (k - 2) n + r is y[r, k].

    Attributes:
        linear: (n (n - 2),).
        quadratic: (n (n - 2), n (n - 2)), symmetric, the diagonal 0.
    """

    relations: int
    linear: Floats
    quadratic: Floats

    @classmethod
    def of(cls, graph: JoinGraph) -> PrefixQubo:
        """Return the QUBO of a join graph. Raises InvalidRequest below 3 relations: nothing to choose."""
        n = graph.size
        if not 3 <= n <= MAX_RELATIONS:
            raise InvalidRequest.at("graph", f"must have from 3 to {MAX_RELATIONS} relations, not {n}")
        blocks: Floats = np.kron(np.eye(n - 2), graph.log_selectivity).astype(np.float64)
        return cls(n, np.tile(graph.log_rows, n - 2), blocks)

    def value(self, bits: Bits) -> float:
        """Return the value for (n (n - 2),) bits, valid or not."""
        y = bits.astype(np.float64)
        return float(self.linear @ y + 0.5 * y @ self.quadratic @ y)

    def bits(self, order: Sequence[int]) -> Bits:
        """Return y of an order of all relations."""
        places = np.argsort(np.asarray(order))
        sizes = np.arange(2, self.relations)
        return np.asarray((places[None, :] < sizes[:, None]).ravel())

    def order(self, bits: Bits) -> tuple[int, ...] | None:
        """Return the order that bits say, its first two by index; None where they are those of no order."""
        rows = bits.reshape(self.relations - 2, self.relations)
        is_nested = (rows[:-1] <= rows[1:]).all()
        if not is_nested or (rows.sum(axis=1) != np.arange(2, self.relations)).any():
            return None
        entered = np.where(rows.any(axis=0), rows.argmax(axis=0), self.relations)
        return tuple(np.argsort(entered, kind="stable").tolist())

    def penalised(self, *, sizes: bool = True) -> PrefixQubo:
        """Return the same with penalties for bits of no order, up to a constant, for samplers that know no orders.

        Each relation that leaves a prefix again costs A; with ``sizes`` each prefix of a wrong size costs A times the
        square of what it is off by. A is the largest change of the value that one bit can make.
        """
        n = self.relations
        weight = float((np.abs(self.linear) + np.abs(self.quadratic).sum(axis=1)).max())
        linear, quadratic = self.linear.copy(), self.quadratic.copy()
        if sizes:
            linear += weight * (1.0 - 2.0 * np.repeat(np.arange(2, n), n))
            quadratic += 2.0 * weight * np.kron(np.eye(n - 2), np.ones((n, n)) - np.eye(n))
        linear[: n * (n - 3)] += weight
        quadratic -= weight * (np.eye(n * (n - 2), k=n) + np.eye(n * (n - 2), k=-n))
        return PrefixQubo(n, linear, quadratic)


@dataclass(frozen=True, slots=True)
class PrefixOrder:
    """What annealing of the prefixes found.

    Attributes:
        order: of the relations, left-deep.
        log_product: the value of the QUBO, sum of the prefixes' log cardinalities.
        log_c_out: what the order costs, the natural logarithm of C_out.
        chains: how many were run, or rings of slices.
        seconds: of wall time.
    """

    order: tuple[int, ...]
    log_product: float
    log_c_out: float
    solver: str
    chains: int
    seconds: float


def log_product(graph: JoinGraph, order: Sequence[int]) -> float:
    """Return the sum of the log cardinalities of prefixes 2 to n - 1, evaluated directly."""
    return float(sum(graph.log_cardinality(list(order[:size])) for size in range(2, graph.size)))


def greedy_order(graph: JoinGraph) -> Indices:
    """Return the order that begins with the smallest join and adds the relation with the least result, each time."""
    n = graph.size
    pairs = graph.log_rows[:, None] + graph.log_rows[None, :] + graph.log_selectivity
    np.fill_diagonal(pairs, np.inf)
    chosen = list(divmod(int(pairs.argmin()), n))
    gains = graph.log_rows + graph.log_selectivity[chosen].sum(axis=0)
    while len(chosen) < n:
        gains[chosen] = np.inf
        following = int(gains.argmin())
        chosen.append(following)
        gains = gains + graph.log_selectivity[following]
    return np.array(chosen, dtype=np.int64)


def anneal_prefixes(
    graph: JoinGraph,
    rng: np.random.Generator,
    schedule: ThermalSchedule | QuantumSchedule = DEFAULT,
    timeout_s: float = 10.0,
) -> PrefixOrder:
    """Return the order of the least sum of log cardinalities that annealing meets, never above that of greedy's.

    Args:
        schedule: a quarter of its chains, at least one, starts at greedy's order; units are those of the spread.
        timeout_s: after which no further chain is started; the first always is.

    Raises:
        InvalidRequest: the graph has fewer than 3 relations, or too many.
    """
    if not 3 <= graph.size <= MAX_RELATIONS:
        raise InvalidRequest.at("graph", f"must have from 3 to {MAX_RELATIONS} relations, not {graph.size}")
    begun = time.monotonic()
    seed = greedy_order(graph)
    best = seed.copy()
    descend_order(graph.log_rows, graph.log_selectivity, best)
    value = log_product(graph, best.tolist())
    spread = _spread(graph, rng)
    chains = schedule.chains if isinstance(schedule, ThermalSchedule) else schedule.restarts
    ran = 0
    while ran == 0 or (ran < chains and time.monotonic() - begun < timeout_s):
        start = seed if ran < max(1, chains // 4) else None
        ran += 1
        for met in _chain(graph, schedule, start, spread, rng):
            found = log_product(graph, met.tolist())
            if found < value - 1e-9:
                best, value = met, found
    order = tuple(best.tolist())
    solver = "simulated annealing" if isinstance(schedule, ThermalSchedule) else "simulated quantum annealing"
    return PrefixOrder(order, value, log_c_out(graph, left_deep(order)), solver, ran, time.monotonic() - begun)


def _spread(graph: JoinGraph, rng: np.random.Generator) -> float:
    """Return the root mean square of the change by a random exchange in random orders; above 0."""
    changes = []
    for _ in range(32):
        order = rng.permutation(graph.size)
        i, j = sorted(rng.choice(graph.size, size=2, replace=False).tolist())
        changes.append(exchange_change(graph.log_rows, graph.log_selectivity, order, i, j))
    return float(np.sqrt(np.mean(np.square(changes)))) or 1.0


def _chain(
    graph: JoinGraph,
    schedule: ThermalSchedule | QuantumSchedule,
    start: Indices | None,
    spread: float,
    rng: np.random.Generator,
) -> list[Indices]:
    seed, n = int(rng.integers(2**31)), graph.size
    if isinstance(schedule, ThermalSchedule):
        temperatures = np.geomspace(schedule.start, schedule.end, schedule.sweeps) * spread
        begin = rng.permutation(n) if start is None else start
        return [thermal_orders(graph.log_rows, graph.log_selectivity, begin, temperatures, seed)]
    steps = np.linspace(schedule.field_start, schedule.field_end, schedule.sweeps)
    begins = np.array([rng.permutation(n) if start is None else start for _ in range(schedule.slices)])
    temperature = schedule.temperature * spread
    return list(
        quantum_orders(graph.log_rows, graph.log_selectivity, begins, steps, temperature, schedule.global_moves, seed)
    )
