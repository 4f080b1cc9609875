"""The JSON bodies of the emulator, as IonQ's API v0.4 spells them.

Two clients read them. ``qiskit-ionq`` wants ``results.probabilities.url`` and a flat estimate; ``ionq-core`` wants
every nullable field present and each result to be an artifact with id, format and media type. The bodies satisfy both.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from quantum_db.circuits.noise import NOISE_MODELS, NoiseModel
from quantum_db.ionq.emulated_jobs import EmulatedJobs, Job, LedgerEntry, Session
from quantum_db.ionq.emulated_requests import SIMULATOR, SINGLE, ApiError
from quantum_db.ionq.gate_simulator import SUPPORTED_GATES, Circuit
from quantum_db.ionq.pricing import PerGateShot, PriceModel

BACKENDS: Final = (SIMULATOR, "qpu.aria-1", "qpu.forte-1", "qpu.forte-enterprise-1")
SUBMITTER: Final = "emulator"
PROBABILITIES: Final = "ionq.result.probabilities.json.v1"
AGGREGATED: Final = "ionq.result.probabilities-aggregate.json.v1"

_STATUSES: Final = frozenset(HTTPStatus)

Json = dict[str, Any]


def error_body(error: ApiError) -> Json:
    """Return the body of an HTTP error."""
    phrase = f"{HTTPStatus(error.status).phrase} " if error.status in _STATUSES else ""  # Cloudflare has 52x of its own
    body: Json = {
        "statusCode": error.status,
        "error": f"{phrase}Error",
        "message": error.message,
    }
    if error.keys:
        body["validation"] = {"source": "payload", "keys": list(error.keys)}
    return body


def created_body(job: Job, now_s: float) -> Json:
    """Return the answer to a submission."""
    return {"id": job.id, "status": job.status(now_s), "session_id": job.spec.session_id}


def job_body(job: Job, now_s: float, circuit: int | None = None) -> Json:
    """Return a job, or the child job of one of its circuits."""
    spec = job.spec
    status = job.status(now_s)
    circuits = spec.circuits if circuit is None else (spec.circuits[circuit],)
    names = (spec.name,) if circuit is None else (spec.circuit_names[circuit],)
    body: Json = {
        "id": job.id if circuit is None else job.child_id(circuit),
        "status": status,
        "type": job.type if circuit is None else SINGLE,
        "backend": spec.backend,
        "dry_run": False,
        "submitter_id": SUBMITTER,
        "project_id": None,
        "parent_job_id": None if circuit is None else job.id,
        "session_id": spec.session_id,
        "metadata": None if spec.metadata is None else dict(spec.metadata),
        "name": names[0],
        **_times(job, now_s),
        "failure": _failure(job) if status == "failed" else None,
        "output": {},
        "settings": dict(spec.settings),
        "stats": _stats(job, circuits, circuit is None),
        "results": _results(job, circuit) if status == "completed" else None,
        "child_job_ids": list(job.child_ids) if spec.multi and circuit is None else None,
    }
    if spec.samples:
        body["shots"] = spec.shots
    if spec.is_simulator:
        body["noise"] = {"model": spec.noise.name} | ({} if spec.noise_seed is None else {"seed": spec.noise_seed})
    else:
        body["cost_model"] = "2QGE_operations"
    return body


def _stats(job: Job, circuits: tuple[Circuit, ...], whole: bool) -> Json:
    stats: Json = {"qubits": max(part.qubits for part in circuits), "circuits": len(circuits)}
    if whole:
        stats["gate_counts"] = {"1q": job.one_qubit_gates, "2q": job.two_qubit_gates}
    return stats


def _times(job: Job, now_s: float) -> Json:
    """Return when things happened, and null for what has not."""
    end_s = job.ended_mono_s if job.canceled_mono_s is None else min(job.canceled_mono_s, job.ended_mono_s)
    started = now_s >= job.started_mono_s and end_s >= job.started_mono_s
    ended = now_s >= end_s
    duration_ms = round(1000.0 * (job.ended_mono_s - job.started_mono_s))
    return {
        "submitted_at": _iso(job.submitted_at_s),
        "started_at": _at(job, job.started_mono_s) if started else None,
        "completed_at": _at(job, end_s) if ended else None,
        "predicted_wait_time_ms": round(1000.0 * max(0.0, job.started_mono_s - now_s)),
        "predicted_execution_duration_ms": duration_ms,
        "execution_duration_ms": duration_ms if job.status(now_s) == "completed" else None,
    }


def _at(job: Job, mono_s: float) -> str:
    return _iso(job.submitted_at_s + mono_s - job.submitted_mono_s)


def _iso(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _failure(job: Job) -> Json | None:
    if job.failure is None:
        return None
    # The clients disagree on the name of the text, so it has both.
    return {"code": job.failure.code, "message": job.failure.message, "error": job.failure.message}


def _results(job: Job, circuit: int | None) -> Json:
    whole = job.spec.multi and circuit is None
    job_id = job.id if circuit is None else job.child_id(circuit)
    name = AGGREGATED if whole else PROBABILITIES
    descriptor = {
        "id": artifact_id(job_id),
        "format": name,
        "media_type": "application/json",
        "url": f"/v0.4/jobs/{job_id}/results/probabilities{'/aggregated' if whole else ''}",
    }
    return {"probabilities": descriptor, name: descriptor}


def artifact_id(job_id: str) -> str:
    """Return the id of the one artifact that a completed job has: its probabilities."""
    return str(uuid.uuid5(uuid.UUID(job_id), PROBABILITIES))


def cost_body(job: Job, now_s: float, cost_usd: float) -> Json:
    """Return what a job costs; the simulator is never priced. Only ``ionq-core`` has a call for it."""
    body: Json = {"dry_run": False}
    if not job.spec.is_simulator:
        cost = {"value": cost_usd, "unit": "usd"}
        body["estimated_cost"] = cost
        if job.status(now_s) == "completed":
            body["cost"] = cost
    return body


def backend_body(backend: str, qubits: int, queue_time_s: float, now_s: float) -> Json:
    """Return a backend. It has the qubits that can be emulated, which may be fewer than the machine of that name."""
    body: Json = {
        "backend": backend,
        "status": "available",
        "degraded": False,
        "qubits": qubits,
        "average_queue_time": round(1000.0 * queue_time_s),
        "last_updated": _iso(now_s),
        "location": SUBMITTER,
        "supported_gates": list(SUPPORTED_GATES),
        "supported_native_gates": [],
        "supported_error_mitigations": [],
    }
    if backend == SIMULATOR:
        body["noise_models"] = list(NOISE_MODELS)
    else:
        body["characterization_id"] = characterization_id(backend)
    return body


def characterization_id(backend: str) -> str:
    """Return the id of the one characterization that a backend has."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:quantum-db:emulator:{backend}"))


def characterization_body(backend: str, qubits: int, since_s: float, noise: NoiseModel) -> Json:
    """Return the characterization of the emulated machine: what it really is, with this noise and instantaneous."""
    fidelities = {"spam": noise.spam_fidelity, "1q": noise.one_qubit_fidelity, "2q": noise.two_qubit_fidelity}
    return {
        "id": characterization_id(backend),
        "backend": backend,
        "status": "available",
        "date": _iso(since_s),
        "qubits": qubits,
        "connectivity": [[low, high] for high in range(qubits) for low in range(high)],
        "fidelity": {what: {"median": fidelity} for what, fidelity in fidelities.items()},
        "timing": {"readout": 0, "reset": 0, "1q": 0, "2q": 0},
    }


def estimate_body(context: Mapping[str, Any], price: PriceModel, cost_usd: float, jobs: EmulatedJobs) -> Json:
    """Return the answer to GET /jobs/estimate in the fields of both clients."""
    rates: list[Json] = []
    if isinstance(price, PerGateShot):
        rates = [
            {
                "sku": price.name,
                "unit": "gates",
                "cost_1q_gate": price.one_qubit_gate_shot_usd,
                "cost_2q_gate": price.two_qubit_gate_shot_usd,
                "job_cost_minimum": price.minimum_usd,
            }
        ]
    card = {"id": price.name, "source": price.source, "rates": rates}
    return {
        "estimate_context": {"organization": None, "project": None, **context},
        "input_values": dict(context),
        "estimated_at": _iso(jobs.clock.now_s()),
        "estimated_unit": "usd",
        "cost_unit": "usd",
        "rate_card": card,
        "rate_information": card,
        "estimated_total_cost": cost_usd,
        "estimated_cost": cost_usd,
        "estimated_execution_time": round(1000.0 * jobs.delays.started_s),
        "current_predicted_queue_time": round(1000.0 * jobs.queue_time_s),
    }


def session_body(session: Session, active: bool) -> Json:
    """Return a session."""
    status = "ended" if not active else "created" if session.started_at_s is None else "started"
    settings: Json = {}
    if session.limits.jobs is not None:
        settings["job_count_limit"] = session.limits.jobs
    if session.limits.duration_min is not None:
        settings["duration_limit_min"] = session.limits.duration_min
        settings["expires_at"] = _iso(session.created_at_s + 60.0 * session.limits.duration_min)
    if session.limits.cost_usd is not None:
        settings["cost_limit"] = {"unit": "usd", "value": session.limits.cost_usd}
    return {
        "id": session.id,
        "created_at": _iso(session.created_at_s),
        "organization_id": SUBMITTER,
        "backend": session.backend,
        "project_id": None,
        "creator_id": SUBMITTER,
        "started_at": None if session.started_at_s is None else _iso(session.started_at_s),
        "ended_at": None if session.ended_at_s is None else _iso(session.ended_at_s),
        "ender_id": None if session.ended_at_s is None else SUBMITTER,
        "active": active,
        "status": status,
        "settings": settings,
    }


def ledger_body(jobs: EmulatedJobs) -> Json:
    """Return what was accepted, for tests: a job key above 1 in ``times_accepted`` was paid for twice."""
    return {
        "accepted": jobs.accepted,
        "high_water_mark": jobs.high_water_mark,
        "high_water_marks": dict(jobs.high_water_marks),
        "times_accepted": dict(jobs.times_accepted("job_key")),
        "entries": [_entry_body(entry) for entry in jobs.ledger],
    }


def _entry_body(entry: LedgerEntry) -> Json:
    return {
        "job_id": entry.job_id,
        "backend": entry.backend,
        "circuits": entry.circuits,
        "shots": entry.shots,
        "cost_usd": entry.cost_usd,
        "submitted_at": _iso(entry.submitted_at_s),
        "metadata": dict(entry.metadata),
    }
