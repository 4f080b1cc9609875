"""Running one request on a backend: in one job, or in rounds of adaptive shots. What comes back is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from quantum_db.circuits.adaptive import AdaptiveAllocation
from quantum_db.circuits.template import CircuitBatch
from quantum_db.circuits.verification import verify_counts
from quantum_db.errors import DeadlineExceeded
from quantum_db.ports import AdaptiveAim, BackendResult, Clock, JobRequest, QuantumBackend


def run_job(backend: QuantumBackend, request: JobRequest, clock: Clock) -> BackendResult:
    """Run a request to its end.

    Raises what ``QuantumBackend.run`` raises; JobFailed also for counts that cannot be what was asked for.
    """
    if request.adaptive is not None:
        return _Rounds(backend, request, clock).run(request.adaptive)
    result = backend.run(request.batch, request.shots, job_key=request.key, timeout_s=request.timeout_s)
    verify_counts(result.counts, len(request.batch), request.batch.template.num_qubits, request.shots)
    return result


@dataclass(slots=True)
class _Rounds:
    """Adaptive shots: each round is a job of its own, or several where a job takes fewer shots than the round wants."""

    backend: QuantumBackend
    request: JobRequest
    clock: Clock
    jobs: list[BackendResult] = field(default_factory=list)

    def run(self, aim: AdaptiveAim) -> BackendResult:
        batch = self.request.batch
        deadline_s = self.clock.monotonic_s() + self.request.timeout_s
        totals: list[Counter[int]] = [Counter() for _ in range(len(batch))]
        allocation = AdaptiveAllocation(
            len(batch),
            aim.top_k,
            epsilon=aim.epsilon,
            confidence=aim.confidence,
            max_shots=max(aim.max_shots, len(batch)),
        )
        while (current := allocation.next_round()) is not None:
            part = CircuitBatch(batch.template, batch.angles[current.indices])
            zeros = np.zeros(len(part), dtype=np.int64)
            for counts in self._counts(part, current.shots, deadline_s):
                for place, (circuit, outcomes) in enumerate(zip(current.indices, counts, strict=True)):
                    totals[circuit].update(outcomes)
                    zeros[place] += outcomes.get(0, 0)
            allocation.observe(zeros)
        return replace(
            self.jobs[-1],
            counts=tuple(dict(total) for total in totals),
            cost_usd=sum(job.cost_usd for job in self.jobs),
            provider_job_ids=tuple(name for job in self.jobs for name in job.provider_job_ids),
            selection=allocation.result(),
        )

    def _counts(self, part: CircuitBatch, shots: int, deadline_s: float) -> list[tuple[Mapping[int, int], ...]]:
        found = []
        while shots > 0:
            now_s = self.clock.monotonic_s()
            if now_s >= deadline_s:
                raise DeadlineExceeded(f"{len(self.jobs)} rounds of adaptive shots took {self.request.timeout_s:.3g} s")
            some = min(shots, self.backend.limits.max_shots)
            key = f"{self.request.key}-{len(self.jobs)}"
            result = self.backend.run(part, some, job_key=key, timeout_s=deadline_s - now_s)
            verify_counts(result.counts, len(part), part.template.num_qubits, some)
            self.jobs.append(result)
            found.append(result.counts)
            shots -= some
        return found
