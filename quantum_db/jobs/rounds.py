"""Adaptive shots as rounds of jobs, and how a worker runs circuits on a backend in its own process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from quantum_db.backend_ports import AdaptiveAim, BackendResult, JobRequest, QuantumBackend
from quantum_db.circuits.adaptive import AdaptiveAllocation, Selection
from quantum_db.circuits.template import CircuitBatch
from quantum_db.circuits.verification import verify_counts
from quantum_db.errors import DeadlineExceeded
from quantum_db.ports import Clock

Counts = Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class AdaptiveCounts:
    """The counts of each circuit over all rounds, and what was decided by them."""

    counts: tuple[Counts, ...]
    selection: Selection


def adaptive_rounds(
    batch: CircuitBatch, aim: AdaptiveAim
) -> Generator[tuple[CircuitBatch, int], Sequence[Counts] | None, AdaptiveCounts]:
    """Yield the rounds, each some of the circuits and the shots of each. No I/O.

    Send in the counts of each round, or None to end with what is known; the first round must be run.
    """
    allocation = AdaptiveAllocation(
        len(batch),
        aim.top_k,
        epsilon=aim.epsilon,
        confidence=aim.confidence,
        max_shots=max(aim.max_shots, len(batch)),
    )
    totals: list[Counter[int]] = [Counter() for _ in range(len(batch))]
    while (current := allocation.next_round()) is not None:
        counts = yield CircuitBatch(batch.template, batch.angles[current.indices]), current.shots
        if counts is None:
            break
        for circuit, outcomes in zip(current.indices, counts, strict=True):
            totals[circuit].update(outcomes)
        allocation.observe(np.array([outcomes.get(0, 0) for outcomes in counts], dtype=np.int64))
    return AdaptiveCounts(tuple(dict(total) for total in totals), allocation.result())


def run_here(backend: QuantumBackend, request: JobRequest, clock: Clock) -> BackendResult:
    """Run all circuits of a request on a backend of this process; what comes back is checked.

    Raises what ``QuantumBackend.run`` raises; JobFailed also for counts that cannot be what was asked for.
    """
    deadline_s = clock.monotonic_s() + request.timeout_s

    def run(batch: CircuitBatch, shots: int) -> BackendResult:
        left_s = deadline_s - clock.monotonic_s()
        if left_s <= 0.0:
            raise DeadlineExceeded(f"circuits were left to run after {request.timeout_s:.3g} s")
        result = backend.run(batch, shots, job_key=request.key, timeout_s=left_s)
        verify_counts(result.counts, len(batch), batch.template.num_qubits, shots)
        return result

    if request.adaptive is None:
        results = [run(batch, request.shots) for batch in request.parts]
        return replace(results[-1], counts=tuple(counts for result in results for counts in result.counts))
    rounds = adaptive_rounds(request.parts[0], request.adaptive)
    current = next(rounds)
    while True:
        result = run(*current)
        try:
            current = rounds.send(result.counts)
        except StopIteration as end:
            return replace(result, counts=end.value.counts, selection=end.value.selection)
