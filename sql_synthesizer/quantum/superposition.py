"""Candidate plans in superposition over a cost register, and the search for the cheapest by amplitude amplification.

``A|0> = sum_p |p>|c(p)> / sqrt(N)``: an index register of m qubits holds N = 2^m plans evenly, and a register of b
qubits beside each the level of its cost. A Grover iteration turns the amplitude of plans whose cost register reads
below a threshold: a phase of -1 on those levels (a multiplexed RY by 2 pi on a flag qubit, which it leaves at 0), then
the reflection ``A (1 - 2|0><0|) A^-1``. With M of N plans below the threshold j iterations make one of them an outcome
with probability ``sin^2((2 j + 1) arcsin sqrt(M / N))``. Duerr and Hoyer, quant-ph/9607014: with falling thresholds and
drawn j this finds the minimum with probability >= 1/2 within 22.5 sqrt(N) + 1.4 (log2 N)^2 calls of the oracle.

What this is not: a speed-up. The circuit's table holds costs that were computed classically, one for each plan, and
whoever has them knows the minimum already; the answer always stands beside it. Below some 600 plans the bound on calls
is above the number of plans itself. Plans of one level are not told apart by the oracle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import JobPool, JobRequest, QuantumBackend
from quantum_db.circuits.template import CircuitBatch, H, MultiplexedRY, Step, Template, content_key
from quantum_db.errors import InvalidRequest

MAX_COST_QUBITS = 8
_GROWTH = 8.0 / 7.0
"""By which the range of drawn iterations grows after a miss; any number between 1 and 4/3 will do."""


@dataclass(frozen=True, slots=True, eq=False)
class CostRegister:
    """Plans and their costs as levels. Made by ``of``.

    Attributes:
        costs: of the plans.
        levels: (2^m,) from 0 to 2^b - 1, linear in the cost from the cheapest to the dearest plan. Places beyond the
            last plan hold the dearest once more.
        places: (2^m,) the plan at each place.
        plan_qubits, cost_qubits: m and b.
    """

    costs: tuple[float, ...]
    levels: NDArray[np.int64]
    places: NDArray[np.int64]
    plan_qubits: int
    cost_qubits: int

    @classmethod
    def of(cls, costs: Sequence[float], num_qubits: int) -> CostRegister:
        """Return the registers for at least two plans.

        Args:
            costs: finite; logarithms, where they span magnitudes.
            num_qubits: in all: what is left of them beside the plans and the flag is the cost register, up to
                ``MAX_COST_QUBITS``.

        Raises:
            InvalidRequest: with what is wrong.
        """
        values = np.asarray(costs, dtype=np.float64)
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
            raise InvalidRequest.at("costs", "need at least two finite numbers")
        plan_qubits = (len(values) - 1).bit_length()
        cost_qubits = min(MAX_COST_QUBITS, num_qubits - plan_qubits - 1)
        if cost_qubits < 1:
            message = f"{len(values)} plans need at least {plan_qubits + 2}, not {num_qubits}"
            raise InvalidRequest.at("num_qubits", message)
        places = np.arange(1 << plan_qubits)
        places[len(values) :] = int(values.argmax())
        span = float(np.ptp(values)) or 1.0
        scaled = (values - values.min()) / span * ((1 << cost_qubits) - 1)
        levels = np.rint(scaled).astype(np.int64)
        return cls(tuple(values.tolist()), levels[places], places, plan_qubits, cost_qubits)

    @property
    def qubits(self) -> int:
        """Of the circuit: cost register (lowest), plan register, flag."""
        return self.plan_qubits + self.cost_qubits + 1

    def marked(self, threshold: int) -> int:
        """Return how many places hold a level below a threshold."""
        return int((self.levels < threshold).sum())

    def circuit(self, iterations: int = 0, threshold: int = 0) -> CircuitBatch:
        """Return the superposition after so many Grover iterations for levels below ``threshold``."""
        costs = tuple(range(self.cost_qubits))
        plans = tuple(range(self.cost_qubits, self.cost_qubits + self.plan_qubits))
        flag = self.qubits - 1
        steps: list[Step] = []
        angles: list[float] = []

        def turn(target: int, controls: tuple[int, ...], of: NDArray[np.floating[Any]]) -> None:
            steps.append(MultiplexedRY(target, controls, len(angles)))
            angles.extend(of.tolist())

        def write(sign: float) -> None:
            for bit in costs:
                turn(bit, plans, sign * math.pi * (self.levels >> bit & 1))

        below = 2.0 * math.pi * (np.arange(1 << self.cost_qubits) < threshold)
        zero = 2.0 * math.pi * (np.arange(1 << self.plan_qubits) == 0)
        spread = [H(plan) for plan in plans]
        steps += spread
        write(1.0)
        for _ in range(iterations):
            turn(flag, costs, below)
            write(-1.0)
            steps += spread
            turn(flag, plans, zero)  # the cost register is 0 again here, so the plans alone say that all is
            steps += spread
            write(1.0)
        template = Template(content_key(self.qubits, tuple(steps)), self.qubits, tuple(steps))
        return CircuitBatch(template, np.array([angles]))

    def read(self, outcome: int) -> tuple[int, int]:
        """Return the plan and the level that an outcome shows."""
        level = outcome & ((1 << self.cost_qubits) - 1)
        place = outcome >> self.cost_qubits & ((1 << self.plan_qubits) - 1)
        return int(self.places[place]), level


@dataclass(frozen=True, slots=True)
class MinimumFound:
    """The end of a search, beside the classical minimum.

    Attributes:
        plan, cost: the cheapest that was measured.
        classical_plan, classical_cost: the cheapest of all, by looking at each.
        oracle_calls: spent in all shots; ``calls_until_found`` of them until ``plan`` was measured.
        classical_calls: what the classical minimum needs: one for each plan.
        runs: circuits that were run.
        largest_two_qubit_gates: of these circuits.
        qubits: of each.
        provenance: how the outcomes came to be.
        cost_usd: of all runs.
    """

    plan: int
    cost: float
    classical_plan: int
    classical_cost: float
    oracle_calls: int
    calls_until_found: int
    classical_calls: int
    runs: int
    largest_two_qubit_gates: int
    qubits: int
    provenance: str
    cost_usd: float

    @property
    def is_minimum(self) -> bool:
        """Whether the search ended at a plan as cheap as the classical minimum."""
        return self.cost <= self.classical_cost


class MinimumSearch:
    """The search as a state machine: ask for a circuit, tell what was measured, until no circuit is left to run."""

    def __init__(
        self, register: CostRegister, rng: np.random.Generator, *, shots: int = 1, max_oracle_calls: int | None = None
    ) -> None:
        """Begin at a drawn plan.

        Args:
            register: what is searched.
            rng: draws the first plan and the numbers of iterations.
            shots: of each circuit; each counts its calls.
            max_oracle_calls: None takes the bound of Duerr and Hoyer.
        """
        size = len(register.levels)
        bound = math.ceil(22.5 * math.sqrt(size) + 1.4 * math.log2(size) ** 2)
        self._register, self._rng, self._shots = register, rng, shots
        self._budget = bound if max_oracle_calls is None else max_oracle_calls
        self._best = int(register.places[rng.integers(size)])
        self._threshold = int(register.levels[self._best])
        self._range = 1.0
        self._iterations = 0
        self.oracle_calls = 0
        self.calls_until_found = 0
        self.runs = 0
        self.largest_two_qubit_gates = 0

    def next_circuit(self) -> CircuitBatch | None:
        """Return what is to be run next; None at the end: the budget does not cover another run.

        Without iterations a run is a plain draw of a plan, and counts as one call: its cost has to be looked at too.
        """
        self._iterations = int(self._rng.integers(math.ceil(self._range)))
        if self.oracle_calls + self._calls() > self._budget:
            return None
        circuit = self._register.circuit(self._iterations, self._threshold)
        gates = circuit.template.two_qubit_gates
        self.largest_two_qubit_gates = max(self.largest_two_qubit_gates, gates)
        return circuit

    def measured(self, counts: Mapping[int, int]) -> None:
        """Note the outcomes of that circuit's shots. The best of them is the next threshold if it is below this one."""
        self.runs += 1
        self.oracle_calls += self._calls()
        plans = {self._register.read(outcome)[0] for outcome, number in counts.items() if number > 0}
        plan = min(plans, key=lambda one: (self._register.costs[one], one))
        if self._register.costs[plan] < self._register.costs[self._best]:
            self._best, self._threshold = plan, int(self._register.levels[plan])
            self.calls_until_found = self.oracle_calls
            self._range = 1.0
        else:
            self._range = min(_GROWTH * self._range, math.sqrt(len(self._register.levels)))

    def found(self, provenance: str, cost_usd: float) -> MinimumFound:
        """Return the end beside the classical minimum."""
        costs = self._register.costs
        least = int(np.argmin(costs))
        return MinimumFound(
            self._best,
            costs[self._best],
            least,
            costs[least],
            self.oracle_calls,
            self.calls_until_found,
            len(costs),
            self.runs,
            self.largest_two_qubit_gates,
            self._register.qubits,
            provenance,
            cost_usd,
        )

    def _calls(self) -> int:
        return self._shots * (self._iterations + 1)


def find_minimum(
    register: CostRegister, backend: QuantumBackend, rng: np.random.Generator, *, key: str, timeout_s: float
) -> MinimumFound:
    """Search on one backend, one shot a circuit; raises what ``QuantumBackend.run`` raises."""
    search = MinimumSearch(register, rng)
    provenance, cost_usd = "nothing was run", 0.0
    while (circuit := search.next_circuit()) is not None:
        result = backend.run(circuit, 1, job_key=f"{key}-{search.runs}", timeout_s=timeout_s)
        provenance, cost_usd = result.provenance, cost_usd + result.cost_usd
        search.measured(result.counts[0])
    return search.found(provenance, cost_usd)


async def find_minimum_pooled(search: MinimumSearch, pool: JobPool, request: JobRequest) -> MinimumFound:
    """Search through the job pool, one job a circuit.

    Args:
        search: at its beginning.
        request: a pattern of the jobs: its parts are replaced, and its key is numbered.

    Raises what ``JobPool.run`` raises.
    """
    provenance, cost_usd = "nothing was run", 0.0
    while (circuit := search.next_circuit()) is not None:
        result = await pool.run(replace(request, key=f"{request.key}-{search.runs}", parts=(circuit,)))
        provenance, cost_usd = result.provenance, cost_usd + result.cost_usd
        search.measured(result.counts[0])
    return search.found(provenance, cost_usd)
