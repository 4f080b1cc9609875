"""What the counts of a planned batch say about each of its operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.batch import BatchPlan, Seat
from quantum_db.circuits.batch_operations import Encode, Entangle
from quantum_db.circuits.entanglement import GroupCorrelation, estimate_group
from quantum_db.circuits.verification import verify_counts

Counts = Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class EncodedShares:
    """The shares of the d outcomes of a register, which estimate |v_i|^2.

    Attributes:
        context: the context that the shots were in; None without contexts.
        shares: (d,), of sum 1; all 0 where there were no such shots.
        shots: how many shots were in the context.
    """

    context: str | None
    shares: NDArray[np.float64]
    shots: int


@dataclass(frozen=True, slots=True, eq=False)
class EncodeResult:
    """One for each vector of the entity. Amplitudes' signs are not in the counts."""

    id: str
    vectors: tuple[EncodedShares, ...]


@dataclass(frozen=True, slots=True, eq=False)
class EntangleResult:
    """The correlations of the group; members are numbered as in the operation."""

    entity_ids: tuple[str, ...]
    correlation: GroupCorrelation


@dataclass(frozen=True, slots=True, eq=False)
class MeasureResult:
    """Histograms of the measured entities: outcomes of the register, the group or context qubit above it.

    Entities of different blocks are independent, and those of one group are counted together in its result.
    """

    counts: Mapping[str, Counts]


Result = EncodeResult | EntangleResult | MeasureResult


def read_batch(plan: BatchPlan, counts: Sequence[Sequence[Counts]]) -> tuple[Result | None, ...]:
    """Return the result of each operation, in order; None for what no measure reads.

    Args:
        counts: for each job of the plan, in order, the histogram of each of its circuits.

    Raises:
        JobFailed: the counts are not those of the plan.
    """
    for batch, histograms in zip(plan.batches, counts, strict=True):
        verify_counts(histograms, len(batch), batch.template.num_qubits, plan.shots)
    measured: set[str] = set()
    for operation in plan.operations:
        if not isinstance(operation, Encode | Entangle):
            measured |= set(operation.entity_ids or plan.seats)
    results: list[Result | None] = []
    for operation in plan.operations:
        if isinstance(operation, Encode):
            results.append(_encode_result(plan, operation, counts) if operation.id in measured else None)
        elif isinstance(operation, Entangle):
            read = measured.issuperset(operation.entity_ids)
            results.append(_entangle_result(plan, operation, counts) if read else None)
        else:
            names = operation.entity_ids or sorted(plan.seats)
            results.append(MeasureResult({name: _counts_of(plan, name, counts) for name in names}))
    return tuple(results)


def _encode_result(plan: BatchPlan, operation: Encode, counts: Sequence[Sequence[Counts]]) -> EncodeResult:
    job, row, seat = next(place for place in plan.seats[operation.id] if place[2].register)
    outcomes = _marginal(counts[job][row], _qubits(seat))
    if operation.vector is not None:
        return EncodeResult(operation.id, (_shares(None, outcomes, operation.vector.size),))
    chosen: list[dict[int, int]] = [{}, {}]
    for outcome, number in outcomes.items():
        value, index = divmod(outcome, 1 << len(seat.register))
        chosen[value][index] = number
    vectors = (_shares(c.name, chosen[value], c.vector.size) for value, c in enumerate(operation.contexts))
    return EncodeResult(operation.id, tuple(vectors))


def _shares(context: str | None, outcomes: Counts, dimension: int) -> EncodedShares:
    numbers = np.zeros(dimension)
    for index, number in outcomes.items():
        if index < dimension:  # above are amplitudes of 0, which only noise can reach
            numbers[index] = number
    shots = int(numbers.sum())
    return EncodedShares(context, numbers / max(1, shots), shots)


def _entangle_result(plan: BatchPlan, operation: Entangle, counts: Sequence[Sequence[Counts]]) -> EntangleResult:
    places = [next(p for p in plan.seats[name] if p[2].member is not None) for name in operation.entity_ids]
    job, row, _ = places[0]
    members = tuple(seat.member for _, _, seat in places if seat.member is not None)
    outcomes = _marginal(counts[job][row], members)
    return EntangleResult(tuple(operation.entity_ids), estimate_group(outcomes, len(members)))


def _counts_of(plan: BatchPlan, name: str, counts: Sequence[Sequence[Counts]]) -> Counts:
    """Return an entity's histogram; where its vector and its group qubit are independent, that of its vector."""
    job, row, seat = max(plan.seats[name], key=lambda place: len(place[2].register))
    return _marginal(counts[job][row], _qubits(seat))


def _qubits(seat: Seat) -> tuple[int, ...]:
    return seat.register if seat.member is None else (*seat.register, seat.member)


def _marginal(counts: Counts, qubits: tuple[int, ...]) -> dict[int, int]:
    """Return the histogram of some qubits, the first as the lowest bit."""
    found: dict[int, int] = {}
    for outcome, number in counts.items():
        part = sum(((outcome >> qubit) & 1) << place for place, qubit in enumerate(qubits))
        found[part] = found.get(part, 0) + number
    return found
