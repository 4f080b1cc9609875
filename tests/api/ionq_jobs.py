"""What the tests of the IonQ adapter share: adapters, circuits with known results, and a job driven to its end."""

from __future__ import annotations

import math
import pickle
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import chisquare

from quantum_db.backend_ports import BackendResult, QuantumProvider
from quantum_db.circuits.encoding import encode_span
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CircuitBatch, MultiplexedRY, Template, content_key
from quantum_db.clock import SystemClock
from quantum_db.errors import OutcomeUnclear, QuantumDBError
from quantum_db.ionq.backend import IonQBackend
from quantum_db.jobs.retry import RetryPolicy
from tests.api.emulator_server import TOKEN, Emulator

FORTE = "qpu.forte-1"
LONG_S = 30.0  # a bound that a passing test does not come near
QUICK = RetryPolicy(first_s=0.02, longest_s=0.1)


def backend_of(emulator: Emulator | str, **options: Any) -> IonQBackend:
    """Return an adapter with short pauses between the attempts of a read."""
    url = emulator if isinstance(emulator, str) else emulator.url
    return IonQBackend(
        **{
            "url": url,
            "token": TOKEN,
            "target": "simulator",
            "clock": SystemClock(),
            "rng": np.random.default_rng(17),
            "retry": QUICK,
            **options,
        }
    )


def submit(provider: QuantumProvider, batch: CircuitBatch, shots: int, job_key: str = "k") -> str:
    """Submit the batch as a job; return its id."""
    return provider.submit([batch], shots, job_key=job_key, timeout_s=LONG_S)


def qubits_of(*parts: CircuitBatch) -> list[int]:
    """Return the qubits of each circuit, as ``collect`` wants them."""
    return [part.template.num_qubits for part in parts for _ in range(len(part))]


def run(
    provider: QuantumProvider, batch: CircuitBatch, shots: int, *, job_key: str = "k", timeout_s: float = LONG_S
) -> BackendResult:
    """Drive one job: submit it once, look for it by its key if the answer was lost, collect it."""
    end_s = time.monotonic() + timeout_s
    try:
        job_id = provider.submit([batch], shots, job_key=job_key, timeout_s=timeout_s)
    except OutcomeUnclear:
        found = provider.find(job_key, timeout_s=LONG_S)
        if not found:
            raise
        job_id = found[0].job_id
    return provider.collect(job_id, qubits_of(batch), shots, timeout_s=end_s - time.monotonic()).result


def overlaps(circuits: int, qubits: int = 4, seed: int = 1) -> CircuitBatch:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(circuits + 1, 1 << qubits)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    encoding = encode_span(vectors[0], vectors[1:], max_qubits=qubits)
    return overlap_circuits(encoding, overlap_template(encoding.num_qubits))


def labelled(outcomes: Sequence[int], qubits: int) -> CircuitBatch:
    """Return circuits that have one outcome each: the given one."""
    steps = tuple(MultiplexedRY(qubit, (), qubit) for qubit in range(qubits))
    bits = np.array([[(outcome >> qubit) & 1 for qubit in range(qubits)] for outcome in outcomes])
    return CircuitBatch(Template(content_key(qubits, steps), qubits, steps), math.pi * bits)


def agrees(result: BackendResult, batch: CircuitBatch, error_rate: float = 1e-6) -> bool:
    """Whether all counts may come from the exact probabilities; a false alarm has at most this probability."""
    for counts, exact in zip(result.counts, probabilities(batch), strict=True):
        shots = sum(counts.values())
        observed = np.array([counts.get(outcome, 0) for outcome in range(len(exact))], dtype=float)
        rare = exact * shots < 5.0
        observed = np.append(observed[~rare], observed[rare].sum())
        expected = np.append(exact[~rare], exact[rare].sum()) * shots
        if expected[-1] < 1e-6 * shots:
            if observed[-1] > 3:
                return False
            observed, expected = observed[:-1], expected[:-1]
        if len(expected) < 2:
            continue
        pvalue = chisquare(observed, expected * observed.sum() / expected.sum()).pvalue
        if pvalue < error_rate / len(batch):
            return False
    return True


def survives_pickling(error: QuantumDBError) -> bool:
    again = pickle.loads(pickle.dumps(error))
    return (type(again), again.detail, again.retry_after_s) == (type(error), error.detail, error.retry_after_s)
