"""From the probabilities that IonQ returns to counts, each circuit's its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import JobFailed

SUM_TOLERANCE: Final = 1e-6

Distribution = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Outcomes, and their probabilities, which sum to 1."""

Rows = Mapping[str, Mapping[str, Any]]
"""Outcome -> probability as it came, by the id of the circuit's job, in the order of the JSON keys."""


def rows_by_child(found: object, circuits: int, job_id: str) -> Rows:
    """Return the result of each circuit. Raises JobFailed if there are too few or too many.

    That of a single circuit may come bare, and then stands under ``job_id``.
    """
    if not isinstance(found, dict):
        raise JobFailed(f"the result of job {job_id} is not a JSON object")
    several = bool(found) and all(isinstance(value, dict) for value in found.values())
    rows = found if several else {job_id: found}
    if len(rows) != circuits:
        raise JobFailed(f"job {job_id} has results of {len(rows)} circuits; {circuits} were submitted")
    return rows


def in_agreed_order(rows: Rows, child_ids: object) -> list[Mapping[str, Any]] | None:
    """Return the rows in the order of submission, or None where the provider contradicts itself about it.

    Args:
        rows: of each circuit.
        child_ids: the ids of the circuits' jobs as the job itself lists them.
    """
    return list(rows.values()) if len(rows) == 1 or list(rows) == child_ids else None


def in_order_of_names(rows: Rows, children: Sequence[Mapping[str, Any]], job_id: str) -> list[Mapping[str, Any]]:
    """Return the rows in the order of their circuits' numbers, which are the names of the children.

    Raises JobFailed unless children, names and rows belong together one to one.
    """
    child_of = {str(child.get("name")): str(child.get("id")) for child in children}
    names = [str(number) for number in range(len(rows))]
    if len(children) != len(rows) or child_of.keys() != set(names) or set(child_of.values()) != rows.keys():
        raise JobFailed(f"the results of job {job_id} cannot be matched to its circuits one to one")
    return [rows[child_of[name]] for name in names]


def distributions(rows: Sequence[Mapping[str, Any]], qubits: Sequence[int], job_id: str) -> list[Distribution]:
    """Return each circuit's outcomes and probabilities. Raises JobFailed if one is not a distribution over them."""
    return [
        _distribution(row, of_circuit, f"circuit {index} of job {job_id}")
        for index, (row, of_circuit) in enumerate(zip(rows, qubits, strict=True))
    ]


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
