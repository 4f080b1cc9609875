"""Error mitigation of merged overlap circuits, as queries may ask for it: readout, or zero-noise extrapolation.

What each gains and costs is measured in benchmarks/noise.py. Mitigation makes scores less wrong and more scattered; an
order by scores that all shrink alike does not need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, assert_never

import numpy as np

from quantum_db.backend_ports import BackendLimits, BackendResult
from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.mitigation import (
    Estimate,
    ReadoutCalibration,
    calibration_circuits,
    extrapolate,
    fold,
    frequencies,
    mitigate_readout,
)
from quantum_db.circuits.statistics import z_value
from quantum_db.circuits.template import CircuitBatch
from quantum_db.overlaps import FidelityEstimates, survival_of_merged

Method = Literal["readout", "zne"]
FOLDING: Final = 3.0
"""Noise scale of the second job of an extrapolation. The first is the circuits as they are, of scale 1."""


def extra_job(method: Method, batch: CircuitBatch) -> CircuitBatch:
    """Return the circuits that run beside the overlap circuits: two for calibration, or all of them folded."""
    if method == "readout":
        return calibration_circuits(batch.template.num_qubits)
    if method == "zne":
        return fold(batch, FOLDING).batch
    assert_never(method)


def read(
    method: Method,
    encoding: SpanEncoding,
    limits: BackendLimits,
    results: Sequence[BackendResult],
    shots: int,
    confidence: float,
) -> FidelityEstimates:
    """Return the fidelities from both jobs, (K,).

    ``readout``: shares corrected by the measured flips, then the known gate fidelities divided out. ``zne``: the
    shares at noise scales 1 and ``FOLDING`` extrapolated to zero by an exponential; nothing has to be known of the
    backend, and readout errors stay in.
    """
    plain, extra = results
    qubits = encoding.num_qubits
    mixed = 1.0 / (1 << qubits)
    if method == "zne":
        shares = np.stack([frequencies(one.counts, qubits)[:, 0] for one in (plain, extra)])
        errors = np.sqrt(np.maximum(shares * (1.0 - shares), 1.0 / shots) / shots)
        return _intervals(extrapolate((1.0, FOLDING), shares, errors, "exponential", mixed), confidence)
    calibration = ReadoutCalibration.measured(extra.counts, qubits)
    found = mitigate_readout(frequencies(plain.counts, qubits), shots, calibration)
    survival = survival_of_merged(encoding, limits)
    values = (found.values[:, 0] - (1.0 - survival) * mixed) / survival
    return _intervals(Estimate(values, found.standard_errors[:, 0] / survival), confidence)


def _intervals(found: Estimate, confidence: float) -> FidelityEstimates:
    margin = z_value(confidence) * found.standard_errors
    low, high = (found.values - margin).clip(0.0, 1.0), (found.values + margin).clip(0.0, 1.0)
    return FidelityEstimates(found.values.clip(0.0, 1.0), low, high, found.standard_errors**2)
