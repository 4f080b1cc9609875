"""From settings to backends."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import InvalidSettings
from quantum_db.jobs.backends import BackendSpec, build_backend, build_provider
from quantum_db.jobs.retry import RetryPolicy

RNG = np.random.default_rng(0)


def zeros(spec: BackendSpec) -> float:
    """Return the share of all-zero outcomes of an overlap of a state with itself on 3 qubits, which is 1 ideally."""
    template = overlap_template(3)
    backend = build_backend("mine", spec, RNG)
    batch = CircuitBatch(template, np.zeros((1, template.angle_count)))
    result = backend.run(batch, 10_000, job_key="k", timeout_s=10.0)
    assert (result.backend, result.provenance) == ("mine", "simulated shots")
    return result.counts[0].get(0, 0) / 10_000


def test_a_simulator_is_ideal_or_noisy_as_the_settings_say() -> None:
    assert zeros(BackendSpec("simulator")) == 1.0
    assert 0.85 < zeros(BackendSpec("simulator", noise_model="forte-1")) < 0.99


def test_what_cannot_be_built_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidSettings, match="forte"):
        build_backend("b", BackendSpec("simulator", noise_model="fort-1"), RNG)
    monkeypatch.delenv("MY_KEY", raising=False)
    ionq = BackendSpec("ionq", url="http://127.0.0.1:1/v0.4", token_env="MY_KEY")
    with pytest.raises(InvalidSettings, match="backend b: the environment variable MY_KEY holds no API key"):
        build_provider("b", ionq, RetryPolicy(), RNG)
    monkeypatch.setenv("MY_KEY", "secret")
    with pytest.raises(InvalidSettings, match="price_model must be one of"):
        build_provider(
            "b", BackendSpec("ionq", url=ionq.url, token_env="MY_KEY", price_model="cheap"), RetryPolicy(), RNG
        )
    assert build_provider("b", ionq, RetryPolicy(), RNG).name == "b"
    with pytest.raises(InvalidSettings, match="of the kind ionq runs elsewhere"):
        build_backend("b", ionq, RNG)
    with pytest.raises(InvalidSettings, match="of the kind simulator is no provider"):
        build_provider("b", BackendSpec("simulator"), RetryPolicy(), RNG)


def test_the_coordinator_starts_without_qiskit() -> None:
    """It is started anew after a crash, while callers wait, and to import qiskit takes longer than all the rest."""
    program = """
import sys
import quantum_db.jobs.assembly, quantum_db.jobs.stored_jobs, quantum_db.journals.open
from quantum_db.jobs.backends import BackendSpec, describe
assert describe(BackendSpec("ionq", url="https://api.ionq.co/v0.4", target="qpu.forte-1")).provenance == "hardware"
print([name for name in ("qiskit", "qiskit_ionq") if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "[]"
