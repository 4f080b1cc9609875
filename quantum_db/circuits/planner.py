"""Plan the overlaps of one query: which circuit family, how many shots, in which jobs, at what price and error.

Depolarising noise of survival s = f1^N1 f2^N2 (N1, N2 gates of a circuit) turns the probability p of the counted
outcome into p' = s p + (1 - s) / D, D outcomes. With s known, (p' - (1 - s) / D) / s estimates p again, without bias
and with the standard error sqrt(p' (1 - p') / S) / s. So noise costs shots as 1 / s^2; it does not show as a wrong
figure until s itself is known badly. Families, for K candidates of fidelity F:

- merged: one circuit each, p = F on n qubits, D = 2^n (``overlap``);
- multiplexed: one circuit for all, p = F / K with an index register of ceil(log2 K) qubits (``multiplexed``, its joint
  estimator); ideal error sqrt(F (K - F) / S);
- unary: one circuit each on d qubits, p = F, D = 2^d (``unary``, without its post-selection).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from quantum_db.backend_ports import BackendLimits
from quantum_db.circuits.encoding import qubits_for
from quantum_db.circuits.multiplexed import index_qubits_for, multiplexed_cx
from quantum_db.circuits.statistics import z_value
from quantum_db.circuits.unary import unary_overlap_cx
from quantum_db.errors import InvalidCircuit
from quantum_db.ionq.pricing import PriceModel

Family = Literal["merged", "multiplexed", "unary"]
FAMILIES: Final[tuple[Family, ...]] = ("merged", "multiplexed", "unary")
DEFAULT_FAMILIES: Final[tuple[Family, ...]] = ("merged",)
MAX_JOBS: Final = 10_000
"""More jobs than this for one query are no plan: they would wait in the queue for days."""


@dataclass(frozen=True, slots=True)
class GateFidelities:
    """Average fidelities of a one-qubit and a two-qubit gate, each in (0, 1]. Raises ValueError outside."""

    one_qubit: float = 1.0
    two_qubit: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 < self.one_qubit <= 1.0 and 0.0 < self.two_qubit <= 1.0):
            raise ValueError("gate fidelities lie in (0, 1]")


@dataclass(frozen=True, slots=True)
class FamilyPlan:
    """What one family would take.

    Attributes:
        feasible: whether it keeps the backend's limits and reaches the error.
        circuits: distinct circuits, each run with ``shots`` shots in all.
        circuits_per_job, shots_per_job, jobs: the batching; ``shots_per_job`` is that of each circuit in a job.
        standard_error: predicted of one fidelity, after the correction for noise.
        bias: what the plain share of a noisy machine would be wrong by, without the correction.
        survival: chance that no gate of a circuit fails.
        note: why it is not feasible, else empty.
    """

    family: Family
    feasible: bool
    qubits: int
    circuits: int
    shots: int
    circuits_per_job: int
    shots_per_job: int
    jobs: int
    one_qubit_gates: int
    two_qubit_gates: int
    survival: float
    standard_error: float
    bias: float
    cost_usd: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class OverlapPlan:
    """The choice, what else there was (cheapest first), and why, in one sentence."""

    chosen: FamilyPlan
    alternatives: tuple[FamilyPlan, ...]
    why: str

    def view(self) -> dict[str, Any]:
        """Return the plan as JSON values, for ``explain``."""
        return {
            "chosen": asdict(self.chosen),
            "alternatives": [asdict(plan) for plan in self.alternatives],
            "why": self.why,
        }


def error_of_half_width(half_width: float, confidence: float) -> float:
    """Return the standard error of a normal interval of this half width at this confidence."""
    return half_width / z_value(confidence)


def noisy_probability(probability: float, survival: float, outcomes: int) -> float:
    """Return s p + (1 - s) / D."""
    return survival * probability + (1.0 - survival) / outcomes


def corrected(share: float, survival: float, outcomes: int) -> float:
    """Return the estimate of p from a share of noisy outcomes, the inverse of ``noisy_probability``."""
    return (share - (1.0 - survival) / outcomes) / survival


@dataclass(frozen=True, slots=True)
class _Shape:
    """A family's circuits: ``scale`` times the counted outcome's probability is the fidelity."""

    qubits: int
    circuits: int
    one_qubit_gates: int
    two_qubit_gates: int
    scale: int


def shape_of(family: Family, count: int, dimension: int) -> _Shape:
    """Return the circuits of a family for ``count`` candidates of ``dimension`` (lifted) numbers; counts are exact."""
    data = qubits_for(count, dimension)
    tree = (1 << data) - 1
    undo = (1 << (data - 1)) - 1
    if family == "merged":
        return _Shape(data, count, tree + undo, max(0, 3 * (1 << data) // 2 - 4), 1)
    if family == "multiplexed":
        index = index_qubits_for(count)
        prepare = (1 << (index + data)) - 1
        if count == 1 << index:  # the index is spread by H gates instead of a tree
            prepare += index + 1 - (1 << index)
        return _Shape(index + data, 1, prepare + undo, multiplexed_cx(count, data), count)
    numbers = max(2, min(count + 1, dimension))
    cx = unary_overlap_cx(numbers)
    return _Shape(numbers, count, 1 + 2 * cx, cx, 1)


def plan_overlap(
    count: int,
    dimension: int,
    limits: BackendLimits,
    price: PriceModel,
    *,
    standard_error: float,
    fidelities: GateFidelities | None = None,
    families: Collection[Family] = DEFAULT_FAMILIES,
    typical_fidelity: float = 0.5,
) -> OverlapPlan:
    """Choose the cheapest family that reaches the error within the limits; of equal prices, the fewest gate-shots.

    Args:
        count: K, distinct candidate vectors.
        dimension: of the lifted vectors.
        standard_error: wanted of each fidelity; see ``error_of_half_width`` for a confidence.
        fidelities: of the gates; None for a machine without noise.
        families: what the caller can run.
        typical_fidelity: the F that errors are predicted at; 0.5 is the worst case of a binomial share.

    Raises:
        InvalidCircuit: no family fits the backend; the message says why for each.
        ValueError: an argument is out of its range.
    """
    if count < 1 or dimension < 2 or standard_error <= 0.0 or not families or not 0.0 <= typical_fidelity <= 1.0:
        raise ValueError("count >= 1, dimension >= 2, standard_error > 0, a family, and 0 <= typical_fidelity <= 1")
    noise = fidelities or GateFidelities()
    plans = [
        _plan(family, shape_of(family, count, dimension), limits, price, noise, standard_error, typical_fidelity)
        for family in FAMILIES
        if family in families
    ]
    plans.sort(key=lambda plan: (not plan.feasible, plan.cost_usd, _gate_shots(plan)))
    best, others = plans[0], tuple(plans[1:])
    if not best.feasible:
        raise InvalidCircuit("no circuit family fits: " + "; ".join(f"{p.family}: {p.note}" for p in plans))
    return OverlapPlan(best, others, _why(best, others))


def _plan(
    family: Family,
    shape: _Shape,
    limits: BackendLimits,
    price: PriceModel,
    noise: GateFidelities,
    standard_error: float,
    fidelity: float,
) -> FamilyPlan:
    survival = noise.one_qubit**shape.one_qubit_gates * noise.two_qubit**shape.two_qubit_gates
    outcomes = 1 << shape.qubits
    p = noisy_probability(fidelity / shape.scale, survival, outcomes)
    spread = shape.scale * math.sqrt(p * (1.0 - p)) / max(survival, 1e-150)
    # at F = 0 or 1 the binomial variance vanishes; one shot is then as good as many, which is right for an exact F
    shots = max(1, math.ceil(min((spread / standard_error) ** 2, 1e15)))
    gates = shape.one_qubit_gates + shape.two_qubit_gates
    per_job = max(1, min(shape.circuits, limits.max_circuits, limits.max_gates // max(1, gates)))
    repeats = math.ceil(shots / limits.max_shots)
    shots_per_job = math.ceil(shots / repeats)
    jobs = math.ceil(shape.circuits / per_job) * repeats
    cost = repeats * price.cost_usd(shape.circuits, shots_per_job, shape.one_qubit_gates, shape.two_qubit_gates)
    note = _obstacle(shape, limits, jobs, gates)
    return FamilyPlan(
        family=family,
        feasible=not note,
        qubits=shape.qubits,
        circuits=shape.circuits,
        shots=shots_per_job * repeats,
        circuits_per_job=per_job,
        shots_per_job=shots_per_job,
        jobs=jobs,
        one_qubit_gates=shape.one_qubit_gates,
        two_qubit_gates=shape.two_qubit_gates,
        survival=survival,
        standard_error=spread / math.sqrt(shots_per_job * repeats),
        bias=shape.scale * p - fidelity,
        cost_usd=cost,
        note=note,
    )


def _obstacle(shape: _Shape, limits: BackendLimits, jobs: int, gates: int) -> str:
    if shape.qubits > limits.max_qubits:
        return f"needs {shape.qubits} qubits, and the backend has {limits.max_qubits}"
    if gates > limits.max_gates:
        return f"one circuit has {gates} gates, and a job takes {limits.max_gates}"
    if jobs > MAX_JOBS:
        return f"noise or the error asked for would take {jobs:,} jobs"
    return ""


def _gate_shots(plan: FamilyPlan) -> int:
    return plan.circuits * plan.shots * (plan.one_qubit_gates + plan.two_qubit_gates)


def _why(best: FamilyPlan, others: tuple[FamilyPlan, ...]) -> str:
    rivals = [plan for plan in others if plan.feasible]
    if not rivals:
        return f"{best.family} is the only family on offer that fits the backend"
    rival = rivals[0]
    if rival.cost_usd > best.cost_usd:
        return (
            f"{best.family} is cheapest for a standard error of {best.standard_error:.2g}: "
            f"${best.cost_usd:,.2f} against ${rival.cost_usd:,.2f} for {rival.family}"
        )
    return (
        f"{best.family} costs no more than {rival.family} and runs {_gate_shots(best):,} gate-shots "
        f"against {_gate_shots(rival):,}"
    )
