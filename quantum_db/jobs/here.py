"""Small work for simulators, run by the process that asks for it: a call to the pool costs many times as much.

Such work costs nothing, is not kept, and ends by itself within a few milliseconds, so that the pool's queue, journal,
budgets and shared jobs have nothing to do for it. A request's own limit holds here, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from quantum_db.backend_ports import BackendLimits, BackendResult, JobRequest
from quantum_db.circuits.simulator import SimulatorBackend
from quantum_db.circuits.template import CircuitBatch
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

    def run_each(self, requests: Sequence[JobRequest]) -> list[BackendResult | QuantumDBError]:
        """Run requests of several callers that this ``takes``; return of each its result, or what is wrong with it.

        Circuits of one structure and one number of shots are simulated together, whoever asks for them: a few of them
        take hardly longer than one.
        """
        found: dict[int, BackendResult | QuantumDBError] = {}
        alike: dict[tuple[str, str, int], list[int]] = {}
        for place, request in enumerate(requests):
            try:
                request.limit.check(0.0, request.shots * sum(map(len, request.parts)))
            except QuantumDBError as error:
                found[place] = error
                continue
            if len(request.parts) == 1:
                alike.setdefault((request.backend, request.parts[0].template.key, request.shots), []).append(place)
            else:
                found[place] = self._run(request)
        for places in alike.values():
            found.update(zip(places, self._run_together([requests[place] for place in places]), strict=True))
        return [found[place] for place in range(len(requests))]

    def _run_together(self, requests: Sequence[JobRequest]) -> list[BackendResult | QuantumDBError]:
        """Run requests of one part each, which differ in their angles alone."""
        if len(requests) == 1:
            return [self._run(requests[0])]
        parts = [request.parts[0] for request in requests]
        merged = CircuitBatch(parts[0].template, np.concatenate([part.angles for part in parts]))
        whole = self._run(replace(requests[0], parts=(merged,), timeout_s=max(one.timeout_s for one in requests)))
        if isinstance(whole, QuantumDBError):
            return [whole] * len(requests)
        ends = np.cumsum([len(part) for part in parts]).tolist()
        return [
            replace(whole, counts=whole.counts[end - len(part) : end]) for part, end in zip(parts, ends, strict=True)
        ]

    def _run(self, request: JobRequest) -> BackendResult | QuantumDBError:
        try:
            result = run_here(self._backends[request.backend], request, self._clock)
        except QuantumDBError as error:
            self._metrics.ended(request.backend, error)
            return error
        self._metrics.ended(request.backend, None)
        self._metrics.completed(request.backend, len(result.counts), request.shots, 0.0)
        return result
