"""Small work for simulators, run by the process that asks for it: a call to the pool costs many times as much.

Such work costs nothing, is not kept, and ends by itself within a few milliseconds, so that the pool's queue, journal,
budgets and shared jobs have nothing to do for it. A request's own limit holds here, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from quantum_db.backend_ports import BackendLimits, BackendResult, JobRequest
from quantum_db.circuits.simulator import SimulatorBackend
from quantum_db.errors import QuantumDBError
from quantum_db.jobs.backends import BackendSpec, build_backend
from quantum_db.jobs.job_metrics import JobMetrics
from quantum_db.jobs.rounds import run_here
from quantum_db.ports import Clock

MOST_AMPLITUDES: Final = 2**14
"""Of all circuits of a request together: what takes up to some three milliseconds."""


class SmallWork:
    """The ideal simulators among the backends, in this process."""

    def __init__(
        self, specs: Mapping[str, BackendSpec], clock: Clock, rng: np.random.Generator, metrics: JobMetrics
    ) -> None:
        """Build the simulators. Of the specifications, those of other backends are left out."""
        built = {name: build_backend(name, spec, rng) for name, spec in specs.items() if spec.kind == "simulator"}
        self._backends = {name: one for name, one in built.items() if isinstance(one, SimulatorBackend)}
        self._clock = clock
        self._metrics = metrics

    def limits(self, backend: str) -> BackendLimits | None:
        """Return what a simulator accepts; None for other backends."""
        found = self._backends.get(backend)
        return None if found is None else found.limits

    def takes(self, request: JobRequest) -> bool:
        """Return whether a request is small work for a simulator."""
        limits = self.limits(request.backend)
        if limits is None or request.adaptive is not None or request.shots > limits.max_shots:
            return False
        return sum(len(part) << part.template.num_qubits for part in request.parts) <= MOST_AMPLITUDES

    def run(self, request: JobRequest) -> BackendResult:
        """Run a request that this ``takes``. Raises BudgetExceeded, and what ``run_here`` raises."""
        circuits = sum(map(len, request.parts))
        request.limit.check(0.0, request.shots * circuits)
        try:
            result = run_here(self._backends[request.backend], request, self._clock)
        except QuantumDBError as error:
            self._metrics.ended(request.backend, error)
            raise
        self._metrics.ended(request.backend, None)
        self._metrics.completed(request.backend, circuits, request.shots, 0.0)
        return result
