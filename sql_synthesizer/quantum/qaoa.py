"""QAOA for small plan selections and join orders, through the job pool: a demonstration, always beside the best answer.

The circuits are those of `quantum_db.circuits.qaoa`. Their mixer keeps one plan for each statement, and k relations in
prefix k. That each prefix holds the one before is a penalty, so that a shot for a join order may be invalid; one for a
plan selection is not, on an ideal machine. To find the angles all selections are listed: who can do that knows the
optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import factorial, prod
from typing import Final

import numpy as np

from quantum_db.backend_ports import JobPool, JobRequest, QuantumBackend
from quantum_db.circuits.qaoa import QaoaPlan, plan_qaoa
from quantum_db.circuits.qaoa_ansatz import MAX_VARIABLES, Qubo
from quantum_db.errors import InvalidRequest
from sql_synthesizer.joins.graph import JoinGraph
from sql_synthesizer.quantum.prefix_qubo import PrefixOrder, PrefixQubo, log_product
from sql_synthesizer.quantum.selection import Choice, PlanChoice

Answer = tuple[int, ...]

LAYERS: Final = 3
_TIE: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A problem as a QUBO whose maximum is the cheapest answer.

    Attributes:
        qubo: at most ``MAX_VARIABLES`` bits; with penalties.
        read: an outcome's answer; None where it is not a valid one.
        cost: of an answer.
        answers: how many valid ones there are.
        classical: the best answer that classical search has found, with its cost.
    """

    qubo: Qubo
    read: Callable[[int], Answer | None]
    cost: Callable[[Answer], float]
    answers: int
    classical: Answer
    classical_cost: float


@dataclass(frozen=True, slots=True)
class QaoaAnswer:
    """What the shots of one circuit say, beside the classical answer.

    Attributes:
        answer, cost: the cheapest valid one among the shots; None where no shot was valid.
        classical, classical_cost: the best of classical search.
        valid_shots: of ``shots``.
        optimum_shots: of these as cheap as the classical answer.
        optimum_probability: that one shot of an ideal machine is an optimum.
        uniform_probability: that one uniform draw of a valid answer is this one: what the circuit must beat.
        qubits, two_qubit_gates: of the circuit.
    """

    answer: Answer | None
    cost: float | None
    classical: Answer
    classical_cost: float
    shots: int
    valid_shots: int
    optimum_shots: int
    optimum_probability: float
    uniform_probability: float
    qubits: int
    two_qubit_gates: int
    provenance: str
    cost_usd: float


def encode_selection(problem: PlanChoice, classical: Choice) -> Encoding:
    """Return a plan selection; bit p is plan p over all statements.

    Raises:
        InvalidRequest: there are more than ``MAX_VARIABLES`` plans.
    """
    _check_size("costs", problem.plans)
    savings = np.zeros((problem.plans, problem.plans))
    savings[problem.pairs[:, 0], problem.pairs[:, 1]] = problem.savings
    savings += savings.T
    starts = problem.starts
    sectors = tuple((tuple(range(first, last)), 1) for first, last in pairwise(starts.tolist()))

    def read(outcome: int) -> Answer | None:
        taken = np.flatnonzero(outcome >> np.arange(problem.plans) & 1)
        if len(taken) != problem.statements or (problem.owner[taken] != np.arange(problem.statements)).any():
            return None
        return tuple((taken - starts[:-1]).tolist())

    return Encoding(
        Qubo(-problem.costs, savings, sectors=sectors),
        read,
        lambda plans: problem.cost(problem.numbered(plans)),
        prod(np.diff(starts).tolist()),
        classical.plans,
        classical.cost,
    )


def encode_prefixes(graph: JoinGraph, classical: PrefixOrder) -> Encoding:
    """Return a left-deep join order by its prefixes; its cost is the sum of their log cardinalities.

    Raises:
        InvalidRequest: the graph has fewer than 3 relations, or needs more than ``MAX_VARIABLES`` bits.
    """
    n = graph.size
    _check_size("graph", n * (n - 2))
    prefixes = PrefixQubo.of(graph)
    cost = prefixes.penalised(sizes=False)
    sectors = tuple((tuple(range((k - 2) * n, (k - 1) * n)), k) for k in range(2, n))

    def read(outcome: int) -> Answer | None:
        return prefixes.order((outcome >> np.arange(n * (n - 2)) & 1).astype(np.bool_))

    return Encoding(
        Qubo(-cost.linear, -cost.quadratic, sectors=sectors),
        read,
        lambda order: log_product(graph, order),
        factorial(n) // 2,
        classical.order,
        classical.log_product,
    )


def plan(encoding: Encoding, rng: np.random.Generator, layers: int = LAYERS) -> QaoaPlan:
    """Find the angles and bind the circuit; see `quantum_db.circuits.qaoa.plan_qaoa`."""
    return plan_qaoa(encoding.qubo, layers, rng)


def sample(
    encoding: Encoding, circuit: QaoaPlan, backend: QuantumBackend, shots: int, *, key: str, timeout_s: float
) -> QaoaAnswer:
    """Run the circuit on one backend; raises what ``QuantumBackend.run`` raises."""
    result = backend.run(circuit.batch, shots, job_key=key, timeout_s=timeout_s)
    return judge(encoding, circuit, result.counts[0], result.provenance, result.cost_usd)


async def sample_pooled(encoding: Encoding, circuit: QaoaPlan, pool: JobPool, request: JobRequest) -> QaoaAnswer:
    """Run the circuit through the job pool; ``request`` says all but the parts. Raises what ``JobPool.run`` raises."""
    result = await pool.run(replace(request, parts=(circuit.batch,)))
    return judge(encoding, circuit, result.counts[0], result.provenance, result.cost_usd)


def judge(
    encoding: Encoding, circuit: QaoaPlan, counts: Mapping[int, int], provenance: str, cost_usd: float
) -> QaoaAnswer:
    """Return what the counts of the circuit say.

    Raises:
        InvalidRequest: there are no shots.
    """
    shots = sum(counts.values())
    if shots < 1:
        raise InvalidRequest.at("counts", "hold no shots")
    tolerance = _TIE * (1.0 + abs(encoding.classical_cost))
    best: Answer | None = None
    best_cost: float | None = None
    valid, optimal = 0, 0
    for outcome, number in sorted(counts.items()):
        answer = encoding.read(outcome) if number > 0 else None
        if answer is None:
            continue
        cost = encoding.cost(answer)
        valid += number
        optimal += number if cost <= encoding.classical_cost + tolerance else 0
        if best_cost is None or cost < best_cost:
            best, best_cost = answer, cost
    return QaoaAnswer(
        best,
        best_cost,
        encoding.classical,
        encoding.classical_cost,
        shots,
        valid,
        optimal,
        circuit.optimum_probability,
        1.0 / encoding.answers,
        circuit.problem.variables,
        circuit.batch.template.two_qubit_gates,
        provenance,
        cost_usd,
    )


def _check_size(path: str, bits: int) -> None:
    if bits > MAX_VARIABLES:
        raise InvalidRequest.at(path, f"takes {bits} bits, and a circuit is made for at most {MAX_VARIABLES}")
