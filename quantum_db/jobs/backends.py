"""From a backend's description in the settings to what runs its jobs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quantum_db.backend_ports import QuantumBackend, QuantumProvider
from quantum_db.circuits.noise import MAX_QUBITS, NoisySimulatorBackend, noise_model
from quantum_db.circuits.simulator import SimulatorBackend
from quantum_db.clock import SystemClock
from quantum_db.errors import InvalidSettings
from quantum_db.ionq.pricing import PRICE_MODELS
from quantum_db.ionq.provenance import provenance_of
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.model import Provenance


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """How to build a backend.

    Attributes:
        kind: ``simulator`` runs in the worker, see ``build_backend``; ``ionq`` speaks IonQ's API to ``url``, see
            ``build_provider``.
        max_qubits: of the simulator; with noise at most 8.
        noise_model: of the simulator; see ``quantum_db.circuits.noise``.
        token_env: the environment variable that holds the API key. The key itself is in no settings and no message.
        target: IonQ's name of the machine, like ``simulator`` or ``qpu.forte-1``.
        price_model: which published prices count; see ``quantum_db.ionq.pricing``.
    """

    kind: Literal["simulator", "ionq"]
    max_qubits: int = 12
    noise_model: str = "ideal"
    url: str = ""
    token_env: str = "IONQ_API_KEY"  # noqa: S105 - the name of a variable, not a secret
    target: str = "simulator"
    price_model: str = "free"


@dataclass(frozen=True, slots=True)
class BackendDescription:
    """What the pool has to know of a backend before it asks it.

    Attributes:
        local: it runs in the workers themselves, free of charge.
        identity: of what runs there, whatever it is called here: results are kept under it.
    """

    local: bool
    identity: str
    provenance: Provenance


def describe(spec: BackendSpec) -> BackendDescription:
    """Return what a specification says without building anything."""
    if spec.kind == "simulator":
        return BackendDescription(True, f"simulator {spec.max_qubits} {spec.noise_model}", "simulated shots")
    return BackendDescription(False, f"ionq {spec.url} {spec.target}", provenance_of(spec.url, spec.target))


def build_backend(name: str, spec: BackendSpec, rng: np.random.Generator) -> QuantumBackend:
    """Return a backend that runs where it is called.

    Raises InvalidSettings when its kind is not ``simulator``, or its noise model is unknown.
    """
    if spec.kind != "simulator":
        raise InvalidSettings(f"backend {name}: a backend of the kind {spec.kind} runs elsewhere, step by step")
    noise = noise_model(spec.noise_model)
    if noise.is_ideal:
        return SimulatorBackend(rng, spec.max_qubits, name)
    qubits = min(spec.max_qubits, MAX_QUBITS)
    return NoisySimulatorBackend(name, noise, rng=rng, clock=SystemClock(), max_qubits=qubits)


def build_provider(name: str, spec: BackendSpec, retry: RetryPolicy, rng: np.random.Generator) -> QuantumProvider:
    """Return a provider that runs jobs elsewhere. Asks it nothing yet.

    Raises InvalidSettings when the kind is not ``ionq``, the key is missing from the environment, the price model is
    unknown, or the URL or the target cannot be used.
    """
    if spec.kind != "ionq":
        raise InvalidSettings(f"backend {name}: a backend of the kind {spec.kind} is no provider")
    token = os.environ.get(spec.token_env)
    if not token:
        raise InvalidSettings(f"backend {name}: the environment variable {spec.token_env} holds no API key")
    from quantum_db.ionq.backend import IonQBackend  # noqa: PLC0415 - qiskit is for those who use it

    if spec.price_model not in PRICE_MODELS:
        raise InvalidSettings(f"backend {name}: price_model must be one of {', '.join(PRICE_MODELS)}")
    return IonQBackend(
        name,
        url=spec.url,
        token=token,
        target=spec.target,
        price_model=PRICE_MODELS[spec.price_model],
        clock=SystemClock(),
        rng=rng,
        retry=retry,
    )
