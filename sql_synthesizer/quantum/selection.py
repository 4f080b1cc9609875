"""Multi-query optimisation: one of several plans for each statement, where two plans together may save work.

    minimise  sum_p c_p x_p - sum_{p<r} s_pr x_p x_r     with exactly one x_p = 1 for each statement

c_p is what a plan costs alone, s_pr what is saved if both are taken (Trummer and Koch, VLDB 2016, who sent it to an
annealer as a QUBO with penalties). That statements share work couples their choices: the best plan of each by itself
need not be the best set. Here no penalty is needed, because annealing moves from one valid set to another; see
`sql_synthesizer.quantum.onehot`. The problem is NP-hard; a proof is given where branch and bound finds one soon.

Costs are in any unit, as are savings; temperatures and fields are in units of the landscape's *spread*, the standard
deviation of the change of cost by a random move.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidRequest
from sql_synthesizer.quantum.bounding import prove
from sql_synthesizer.quantum.onehot import (
    Floats,
    Indices,
    Terms,
    descend,
    marginal_costs,
    quantum_ring,
    thermal_chain,
)

Schedule = ThermalSchedule | QuantumSchedule

MAX_PLANS: Final = 100_000
PROOF_MAX_PLANS: Final = 400
"""Above this no proof is tried: the bounds take memory and time that grow with statements times plans."""
PROOF_NODES: Final = 20_000
"""Partial choices that `select` looks at for a proof; a few milliseconds."""

DEFAULT: Final = ThermalSchedule(chains=16, sweeps=120, start=0.6, end=0.01)
"""From a scan of temperatures; see `benchmarks/sql_quantum.py`."""

_ROUNDING: Final = 1e-12
"""Differences of cost below this, relative to the size of the terms, are rounding."""


@dataclass(frozen=True)
class PlanChoice:
    """The problem. Made by ``build``, which checks it.

    Attributes:
        costs: (P,) of all plans, statement by statement.
        starts: (q + 1,) where each statement's plans begin.
        pairs: (E, 2) plans of different statements, each pair once, the lower first.
        savings: (E,) of the pairs; a negative one is a loss.
    """

    costs: Floats
    starts: Indices
    pairs: Indices
    savings: Floats

    @classmethod
    def build(
        cls, costs: Sequence[Sequence[float]], savings: Mapping[tuple[tuple[int, int], tuple[int, int]], float]
    ) -> PlanChoice:
        """Return the problem.

        Args:
            costs: for each statement those of its plans, at least one.
            savings: by pair of plans, each as (statement, plan within it); what is given twice adds up.

        Raises:
            InvalidRequest: with the path of what is wrong.
        """
        sizes = np.array([len(row) for row in costs], dtype=np.int64)
        if not len(sizes) or not sizes.all():
            raise InvalidRequest.at("costs", "need at least one statement, and at least one plan for each")
        starts = np.concatenate([[0], np.cumsum(sizes)])
        if starts[-1] > MAX_PLANS:
            raise InvalidRequest.at("costs", f"hold {starts[-1]} plans, and at most {MAX_PLANS} are taken")
        flat = np.array([cost for row in costs for cost in row], dtype=np.float64)
        merged: dict[tuple[int, int], float] = {}
        for ends, saving in savings.items():
            for statement, plan in ends:
                if not (0 <= statement < len(sizes) and 0 <= plan < sizes[statement]):
                    raise InvalidRequest.at("savings", f"there is no plan {plan} of a statement {statement}")
            (one, first), (other, second) = ends
            if one == other:
                raise InvalidRequest.at("savings", f"statement {one} takes one plan only, so no two of them can save")
            low, high = sorted((int(starts[one]) + first, int(starts[other]) + second))
            merged[low, high] = merged.get((low, high), 0.0) + saving
        pairs = np.array(sorted(merged), dtype=np.int64).reshape(-1, 2)
        amounts = np.array([merged[low, high] for low, high in sorted(merged)], dtype=np.float64)
        if not (np.isfinite(flat).all() and np.isfinite(amounts).all()):
            raise InvalidRequest.at("costs", "every cost and every saving must be finite")
        return cls(flat, starts, pairs, amounts)

    @property
    def statements(self) -> int:
        """How many there are, q."""
        return len(self.starts) - 1

    @property
    def plans(self) -> int:
        """How many there are in all, P: the binary variables of the QUBO."""
        return len(self.costs)

    @cached_property
    def terms(self) -> Terms:
        """The same as the compiled loops read it."""
        ends = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        order = np.lexsort((ends[:, 1], ends[:, 0]))
        counts = np.bincount(ends[:, 0], minlength=self.plans)
        link_starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        amounts = np.concatenate([self.savings, self.savings])[order]
        return Terms(self.costs, self.starts, link_starts, np.ascontiguousarray(ends[order, 1]), amounts)

    @cached_property
    def tolerance(self) -> float:
        """Below which a difference of costs is rounding."""
        return _ROUNDING * (float(np.abs(self.costs).sum()) + float(np.abs(self.savings).sum()))

    @cached_property
    def owner(self) -> Indices:
        """The statement of each plan, (P,)."""
        return np.repeat(np.arange(self.statements), np.diff(self.starts))

    def cost(self, chosen: Indices) -> float:
        """Return the cost of a choice, (q,) of plans counted over all statements."""
        taken = np.zeros(self.plans, dtype=np.bool_)
        taken[chosen] = True
        both = taken[self.pairs[:, 0]] & taken[self.pairs[:, 1]]
        return float(self.costs[chosen].sum() - self.savings[both].sum())

    def random_choices(self, count: int, rng: np.random.Generator) -> Indices:
        """Return ``count`` uniform choices, (count, q)."""
        sizes = np.diff(self.starts)
        return np.asarray(self.starts[:-1] + (rng.random((count, self.statements)) * sizes).astype(np.int64))

    def spread(self, rng: np.random.Generator) -> float:
        """Return the standard deviation of the change by a random move from random choices; above 0."""
        changes: list[NDArray[np.float64]] = []
        for old, new in zip(self.random_choices(8, rng), self.random_choices(8, rng), strict=True):
            field = marginal_costs(self.terms, old)
            changes.append((field[new] - field[old])[old != new])
        found = np.concatenate(changes)
        spread = float(np.sqrt(np.mean(found**2))) if len(found) else 0.0
        return spread if spread > self.tolerance else 1.0

    def numbered(self, plans: Sequence[int]) -> Indices:
        """Return plans, counted within their statements, as counted over all of them."""
        return np.asarray(self.starts[:-1] + np.asarray(plans, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class Choice:
    """A plan for each statement, counted within it; their cost together; and the solver's name."""

    plans: tuple[int, ...]
    cost: float
    solver: str


@dataclass(frozen=True, slots=True)
class SelectionResult:
    """What `select` found.

    Attributes:
        choice: the best of all; never above ``greedy`` or ``separate``.
        greedy: the choice made statement by statement, given those before.
        separate: each statement's cheapest plan by itself, as without any optimisation over the set.
        proven: whether branch and bound has shown that nothing is cheaper, but for rounding.
        chains: how many were run, or rings of slices.
        seconds: of wall time.
    """

    choice: Choice
    greedy: Choice
    separate: Choice
    proven: bool
    chains: int
    seconds: float

    @property
    def reduction(self) -> float:
        """The share of the separate plans' cost that the choice saves, 0 to 1; 0 where that cost is not above 0."""
        if self.separate.cost <= 0.0:
            return 0.0
        return (self.separate.cost - self.choice.cost) / self.separate.cost


def separate(problem: PlanChoice) -> Choice:
    """Return each statement's cheapest plan; what they happen to save together counts."""
    bounds = zip(problem.starts, problem.starts[1:], strict=False)
    chosen = np.array([first + problem.costs[first:last].argmin() for first, last in bounds])
    return _choice(problem, chosen, "separate")


def greedy(problem: PlanChoice) -> Choice:
    """Return the choice that takes, statement by statement, the plan that adds least to those taken before."""
    field, terms = problem.costs.copy(), problem.terms
    chosen = np.empty(problem.statements, dtype=np.int64)
    for g in range(problem.statements):
        first, last = terms.starts[g], terms.starts[g + 1]
        plan = int(first + field[first:last].argmin())
        links = slice(terms.link_starts[plan], terms.link_starts[plan + 1])
        field[terms.link_plans[links]] -= terms.link_savings[links]
        chosen[g] = plan
    return _choice(problem, chosen, "greedy")


def anneal(
    problem: PlanChoice, rng: np.random.Generator, schedule: Schedule = DEFAULT, timeout_s: float = 10.0
) -> tuple[Choice, int]:
    """Return the best choice that annealing meets, never above that of the descent from greedy's; and the chains run.

    Args:
        schedule: thermal or in a transverse field; a quarter of the chains, at least one, starts at greedy's choice.
        timeout_s: after which no further chain is started; the first always is.
    """
    begun = time.monotonic()
    seed = problem.numbered(greedy(problem).plans)
    best = seed.copy()
    descend(problem.terms, best, marginal_costs(problem.terms, best), problem.tolerance)
    best_cost = problem.cost(best)
    spread = problem.spread(rng)
    chains = schedule.chains if isinstance(schedule, ThermalSchedule) else schedule.restarts
    ran = 0
    while ran == 0 or (ran < chains and time.monotonic() - begun < timeout_s):
        start = seed if ran < max(1, chains // 4) else None
        found = _chain(problem, schedule, start, spread, rng)
        ran += 1
        cost = problem.cost(found)
        if cost < best_cost - problem.tolerance:
            best, best_cost = found, cost
    name = "simulated annealing" if isinstance(schedule, ThermalSchedule) else "simulated quantum annealing"
    return _choice(problem, best, name), ran


def exact(problem: PlanChoice, rng: np.random.Generator, max_nodes: int = 10_000_000) -> Choice:
    """Return a proven minimum, but for rounding.

    Raises:
        InvalidRequest: there are more than ``PROOF_MAX_PLANS`` plans, or no proof within ``max_nodes`` partial choices.
    """
    if problem.plans > PROOF_MAX_PLANS:
        raise InvalidRequest.at("costs", f"an exact answer is given for at most {PROOF_MAX_PLANS} plans")
    found, _ = anneal(problem, rng)
    chosen, proven = prove(problem.terms, problem.numbered(found.plans), found.cost, problem.tolerance, max_nodes)
    if not proven:
        raise InvalidRequest.at("max_nodes", f"no proof within {max_nodes} partial choices")
    return _choice(problem, chosen, "exact")


def select(
    problem: PlanChoice, rng: np.random.Generator, schedule: Schedule = DEFAULT, timeout_s: float = 10.0
) -> SelectionResult:
    """Return the best of the separate plans, greedy, annealing and, for few plans, branch and bound."""
    begun = time.monotonic()
    alone, first = separate(problem), greedy(problem)
    annealed, chains = anneal(problem, rng, schedule, timeout_s)
    best = min((annealed, first, alone), key=lambda choice: choice.cost)
    proven = False
    if problem.plans <= PROOF_MAX_PLANS:
        incumbent = problem.numbered(best.plans)
        chosen, proven = prove(problem.terms, incumbent, best.cost, problem.tolerance, PROOF_NODES)
        if problem.cost(chosen) < best.cost - problem.tolerance:
            best = _choice(problem, chosen, "branch and bound")
    return SelectionResult(best, first, alone, proven, chains, time.monotonic() - begun)


def warm_up() -> float:
    """Compile what the solvers need, and return how long it took, in seconds. A server calls it before it is ready."""
    begun = time.monotonic()
    problem = PlanChoice.build([[1.0, 2.0], [1.0, 2.0]], {((0, 1), (1, 1)): 2.5})
    rng = np.random.default_rng(0)
    select(problem, rng, ThermalSchedule(chains=1, sweeps=1))
    anneal(problem, rng, QuantumSchedule(restarts=1, slices=2, sweeps=1))
    return time.monotonic() - begun


def _chain(
    problem: PlanChoice, schedule: Schedule, start: Indices | None, spread: float, rng: np.random.Generator
) -> Indices:
    seed = int(rng.integers(2**31))
    if isinstance(schedule, ThermalSchedule):
        temperatures = np.geomspace(schedule.start, schedule.end, schedule.sweeps) * spread
        begin = problem.random_choices(1, rng)[0] if start is None else start
        return thermal_chain(problem.terms, begin, temperatures, seed, problem.tolerance)
    steps = np.linspace(schedule.field_start, schedule.field_end, schedule.sweeps)
    slices = schedule.slices
    begins = problem.random_choices(slices, rng) if start is None else np.repeat(start[None, :], slices, axis=0)
    temperature = schedule.temperature * spread
    return quantum_ring(problem.terms, begins, steps, temperature, schedule.global_moves, seed, problem.tolerance)


def _choice(problem: PlanChoice, chosen: Indices, solver: str) -> Choice:
    plans = tuple((chosen - problem.starts[:-1]).tolist())
    return Choice(plans, problem.cost(chosen), solver)
