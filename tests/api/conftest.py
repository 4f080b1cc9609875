"""An emulator for each file of tests, and an adapter to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quantum_db.ionq.backend import IonQBackend
from quantum_db.ionq.emulated_jobs import Delays
from tests.api.emulator_server import Emulator, emulator_thread
from tests.api.ionq_jobs import backend_of


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with emulator_thread(seed=3) as running:
        yield running


@pytest.fixture
def emulator(shared: Emulator) -> Emulator:
    shared.reset()
    assert shared.jobs is not None
    shared.jobs.delays = Delays()
    shared.jobs.listing_lag_s = 0.0
    shared.jobs.queue_time_s = 0.0
    return shared


@pytest.fixture
def backend(emulator: Emulator) -> Iterator[IonQBackend]:
    found = backend_of(emulator)
    assert found.limits.max_qubits == 20  # asked now, so that faults meet the job and not this
    emulator.plan()
    yield found
    found.close()
