"""The overlap circuits of a query in the planned family, and the fidelities that their counts give."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import BackendLimits, BackendResult
from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.multiplexed import (
    index_qubits_for,
    multiplexed_circuit,
    multiplexed_template,
    register_table,
)
from quantum_db.circuits.overlap import overlap_circuits
from quantum_db.circuits.planner import FAMILIES, Family, GateFidelities, OverlapPlan, plan_overlap, shape_of
from quantum_db.circuits.statistics import wilson_interval
from quantum_db.circuits.template import CircuitBatch, Template
from quantum_db.circuits.unary import SUCCESS, unary_overlap_circuits, unary_overlap_template
from quantum_db.ionq.pricing import PRICE_MODELS

Array = NDArray[np.float64]

WORST_SPREAD = 0.5
"""Standard deviation of one shot at F = 1/2: n shots of an ideal circuit have a standard error of this over sqrt(n)."""


def plan(encoding: SpanEncoding, limits: BackendLimits, shots: int) -> OverlapPlan:
    """Choose family, shots and batching that reach the error of ``shots`` ideal shots for each candidate.

    Raises:
        InvalidCircuit: no family fits the backend.
    """
    return _planned(*encoding.candidates.shape, limits, shots)


@lru_cache(maxsize=1024)
def _planned(rows: int, dimension: int, limits: BackendLimits, shots: int) -> OverlapPlan:
    return plan_overlap(
        rows,
        dimension,
        limits,
        PRICE_MODELS[limits.price_model],
        standard_error=WORST_SPREAD / np.sqrt(shots),
        fidelities=GateFidelities(limits.one_qubit_fidelity, limits.two_qubit_fidelity),
        families=FAMILIES,
    )


def bind(family: Family, encoding: SpanEncoding, merged: Template) -> CircuitBatch:
    """Return the circuits of a family. ``merged`` is the overlap template of the encoding's qubits."""
    rows = encoding.candidates.shape[0]
    if family == "merged":
        return overlap_circuits(encoding, merged)
    if family == "multiplexed":
        return multiplexed_circuit(encoding, multiplexed_template(rows, encoding.num_qubits))
    if family == "unary":
        used = max(2, min(rows + 1, encoding.candidates.shape[1]))  # amplitudes beyond the span are zero
        template = unary_overlap_template(used)
        return unary_overlap_circuits(encoding.query[:used], encoding.candidates[:, :used], template)
    assert_never(family)


@dataclass(frozen=True, slots=True, eq=False)
class FidelityEstimates:
    """Fidelities of K candidates from shots, with their intervals and variances, all (K,)."""

    values: Array
    low: Array
    high: Array
    variance: Array


def read(
    family: Family, encoding: SpanEncoding, limits: BackendLimits, result: BackendResult, confidence: float
) -> FidelityEstimates:
    """Return what the counts say of the fidelities.

    The known mean fidelities of a noisy backend's gates are divided out, in the model of global depolarising noise: a
    probability p is seen as s p + (1 - s) / D. Readout errors stay in.
    """
    rows, dimension = encoding.candidates.shape
    successes, shots = _counted(family, rows, encoding.num_qubits, result)
    shape = shape_of(family, rows, dimension)
    survival = limits.one_qubit_fidelity**shape.one_qubit_gates * limits.two_qubit_fidelity**shape.two_qubit_gates
    mixed = (1.0 - survival) / (1 << shape.qubits)

    def fidelity(share: Array) -> Array:
        return np.clip(shape.scale * (share - mixed) / survival, 0.0, 1.0)

    if result.selection is None:
        low, high = wilson_interval(successes, shots, confidence)
    else:
        low, high = result.selection.low, result.selection.high
    centre = (successes + 2.0) / (shots + 4.0)  # Agresti and Coull's: no variance of zero at 0 or all successes
    variance = centre * (1.0 - centre) / shots * (shape.scale / survival) ** 2
    return FidelityEstimates(fidelity(successes / shots), fidelity(low), fidelity(high), variance)


def survival_of_merged(encoding: SpanEncoding, limits: BackendLimits) -> float:
    """Return the chance that no gate of a merged circuit fails: what a difference of fidelities shrinks by."""
    shape = shape_of("merged", *encoding.candidates.shape)
    return limits.one_qubit_fidelity**shape.one_qubit_gates * limits.two_qubit_fidelity**shape.two_qubit_gates


def _counted(
    family: Family, rows: int, data_qubits: int, result: BackendResult
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return successes and shots of each candidate."""
    if family == "multiplexed":
        (counts,) = result.counts
        table = register_table(counts, index_qubits_for(rows), data_qubits)
        return table[:rows, 0], np.full(rows, table.sum())
    outcome = SUCCESS if family == "unary" else 0
    successes = np.array([counts.get(outcome, 0) for counts in result.counts], dtype=np.int64)
    return successes, np.array([sum(counts.values()) for counts in result.counts], dtype=np.int64)
