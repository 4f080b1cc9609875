"""Running one request on a backend: in one job, or in rounds of adaptive shots. What comes back is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from quantum_db.circuits.adaptive import AdaptiveAllocation, Selection
from quantum_db.circuits.template import CircuitBatch
from quantum_db.circuits.verification import verify_counts
from quantum_db.errors import DeadlineExceeded
from quantum_db.ports import BackendResult, Clock, JobRequest, QuantumBackend


def run_job(backend: QuantumBackend, request: JobRequest, clock: Clock) -> BackendResult:
    """Run a request to its end. Where a job takes fewer shots than are asked for, it runs as several.

    Raises what ``QuantumBackend.run`` raises; JobFailed also for counts that cannot be what was asked for.
    """
    jobs = _Jobs(backend, request, clock)
    batch = request.batch
    totals: list[Counter[int]] = [Counter() for _ in range(len(batch))]
    if request.adaptive is None:
        for counts in jobs.run(batch, request.shots):
            for total, outcomes in zip(totals, counts, strict=True):
                total.update(outcomes)
        return jobs.result(totals, None)
    aim = request.adaptive
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
        for counts in jobs.run(part, current.shots):
            for place, (circuit, outcomes) in enumerate(zip(current.indices, counts, strict=True)):
                totals[circuit].update(outcomes)
                zeros[place] += outcomes.get(0, 0)
        allocation.observe(zeros)
    return jobs.result(totals, allocation.result())


@dataclass(slots=True)
class _Jobs:
    """The jobs of one request, each with a key of its own and what is left of the deadline."""

    backend: QuantumBackend
    request: JobRequest
    clock: Clock
    deadline_s: float = field(init=False)
    done: list[BackendResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.deadline_s = self.clock.monotonic_s() + self.request.timeout_s

    def run(self, batch: CircuitBatch, shots: int) -> list[tuple[Mapping[int, int], ...]]:
        """Return the counts of each job that ``shots`` shots of the circuits take."""
        found: list[tuple[Mapping[int, int], ...]] = []
        left = shots
        while left > 0 or not found:  # without shots, the backend says what is wrong with that
            now_s = self.clock.monotonic_s()
            if now_s >= self.deadline_s:
                raise DeadlineExceeded(
                    f"{len(self.done)} jobs took {self.request.timeout_s:.3g} s, and more are to run"
                )
            some = min(left, self.backend.limits.max_shots)
            key = f"{self.request.key}-{len(self.done)}"
            result = self.backend.run(batch, some, job_key=key, timeout_s=self.deadline_s - now_s)
            verify_counts(result.counts, len(batch), batch.template.num_qubits, some)
            self.done.append(result)
            found.append(result.counts)
            left -= some
        return found

    def result(self, totals: list[Counter[int]], selection: Selection | None) -> BackendResult:
        """Return all jobs as one."""
        return replace(
            self.done[-1],
            counts=tuple(dict(total) for total in totals),
            cost_usd=sum(job.cost_usd for job in self.done),
            provider_job_ids=tuple(name for job in self.done for name in job.provider_job_ids),
            selection=selection,
        )
