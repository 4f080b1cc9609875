"""What IonQ's answers say. They come from outside, so nothing in them is taken for granted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from quantum_db.errors import JobFailed
from quantum_db.ionq.payload import JOB_KEY

ENDED: Final = frozenset({"completed", "failed", "canceled"})
"""Statuses that stay. Any other, also one that is not known yet, means that the job may still run."""

Answer = Mapping[str, Any]


def at(answer: object, *path: str) -> Any:
    """Return what stands at the path of nested objects, or None."""
    for name in path:
        if not isinstance(answer, Mapping):
            return None
        answer = answer.get(name)
    return answer


def number(answer: object, *path: str) -> float | None:
    """Return the number at the path, or None if there is none that is finite and not negative."""
    value = at(answer, *path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def seconds(answer: object, *path: str) -> float | None:
    """Return the milliseconds at the path in seconds.

    IonQ's specification states the unit for estimates and puts it into the names of a job's fields; for a backend's
    ``average_queue_time`` it states none, and its example, 1181215, is 20 minutes so and two weeks otherwise.
    """
    value_ms = number(answer, *path)
    return None if value_ms is None else value_ms / 1000.0


def status(job: Answer) -> str:
    """Return the job's status, ``unknown`` if it does not tell."""
    found = job.get("status")
    return found if isinstance(found, str) else "unknown"


def has_ended(job: Answer) -> bool:
    """Whether the job's status is final."""
    return status(job) in ENDED


def has_key(job: Answer, job_key: str) -> bool:
    """Whether this is the job itself and not the child of one: children repeat the metadata."""
    return job.get("parent_job_id") is None and at(job, "metadata", JOB_KEY) == job_key


def was_submitted_before(job: Answer, epoch_s: float) -> bool:
    """Whether the job says that it was submitted before a time."""
    try:
        return datetime.fromisoformat(job["submitted_at"]).timestamp() < epoch_s
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def results_url(job: Answer) -> str:
    """Return where a completed job's probabilities are. Raises JobFailed when it does not say."""
    url = at(job, "results", "probabilities", "url")
    if not isinstance(url, str):
        raise JobFailed(f"job {job.get('id')} is completed without probabilities")
    return url


def gates(job: Answer) -> tuple[float, float]:
    """Return the one- and two-qubit gates of all circuits as the provider counted them; 0 where it did not."""
    counted = at(job, "stats", "gate_counts")
    return number(counted, "1q") or 0.0, number(counted, "2q") or 0.0


def cost_usd(cost: Answer) -> float | None:
    """Return what GET /jobs/{id}/cost says that the job cost, or None if it says nothing in USD."""
    return number(cost, "cost", "value") if at(cost, "cost", "unit") == "usd" else None


def estimated_usd(estimate: Answer) -> float | None:
    """Return what GET /jobs/estimate expects the job to cost, by either of the names that it goes by."""
    for value, unit in (("estimated_total_cost", "estimated_unit"), ("estimated_cost", "cost_unit")):
        if estimate.get(unit) == "usd":
            return number(estimate, value)
    return None
