"""From the probabilities that IonQ returns to counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import JobFailed

SUM_TOLERANCE: Final = 1e-6

Distribution = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Outcomes, and their probabilities, which sum to 1."""


def distributions(found: object, circuits: int, qubits: int, job_id: str) -> list[Distribution]:
    """Return each circuit's outcomes and probabilities, in the order of the JSON keys.

    Raises JobFailed if there are too few or too many, or if one is not a distribution over the circuit's outcomes.
    """
    if not isinstance(found, dict):
        raise JobFailed(f"the result of job {job_id} is not a JSON object")
    several = bool(found) and all(isinstance(value, dict) for value in found.values())
    rows = list(found.values()) if several else [found]
    if len(rows) != circuits:
        raise JobFailed(f"job {job_id} has results of {len(rows)} circuits; {circuits} were submitted")
    return [_distribution(row, qubits, f"circuit {index} of job {job_id}") for index, row in enumerate(rows)]


def _distribution(row: Mapping[str, Any], qubits: int, where: str) -> Distribution:
    try:
        outcomes = np.array([int(key) for key in row], dtype=np.int64)
        probabilities = np.array([float(value) for value in row.values()], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise JobFailed(f"the result of {where} is not a distribution") from error
    if outcomes.size and (outcomes.min() < 0 or outcomes.max() >= 1 << qubits):
        raise JobFailed(f"the result of {where} has an outcome that {qubits} qubits do not have")
    if len(np.unique(outcomes)) < len(outcomes):
        raise JobFailed(f"the result of {where} has an outcome twice")
    total = float(probabilities.sum())
    if not math.isclose(total, 1.0, abs_tol=SUM_TOLERANCE, rel_tol=0.0) or probabilities.min() < 0.0:
        raise JobFailed(f"the probabilities of {where} sum to {total:.9g}, or one is negative")
    return outcomes, probabilities / total


def rounded_counts(outcomes: NDArray[np.int64], probabilities: NDArray[np.float64], shots: int) -> Mapping[int, int]:
    """Return probability * shots, rounded so that the counts sum to the shots."""
    exact = probabilities * shots
    counts = np.floor(exact + 1e-9).astype(np.int64)
    missing = shots - int(counts.sum())
    if missing > 0:
        counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return as_counts(outcomes, counts)


def as_counts(outcomes: NDArray[np.int64], counts: NDArray[np.int64]) -> Mapping[int, int]:
    """Return outcome -> count without the outcomes that did not occur."""
    return {int(outcomes[index]): int(counts[index]) for index in np.flatnonzero(counts)}
