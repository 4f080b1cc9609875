"""The quantum stage of a query: whether circuits run, which, and what their counts say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from quantum_db import mitigated, overlaps, retrieval, superposed
from quantum_db.circuits.planner import Family, OverlapPlan
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import JobFailed, Overloaded, Unavailable
from quantum_db.model import Candidates, Query, Refinement
from quantum_db.modes import MODES
from quantum_db.ports import AdaptiveAim, BackendResult, Clock, JobPool, JobRequest, Templates
from quantum_db.retrieval import Scores


@dataclass(frozen=True, slots=True)
class Policy:
    """How queries run unless they say otherwise.

    Attributes:
        backend: the quantum backend of queries that name none.
        on_backend_failure: answer with the classical order and say so, or fail.
    """

    backend: str = "simulator"
    on_backend_failure: Literal["classical", "fail"] = "classical"


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    """The job to run, maybe one more for mitigation, and how their results become scores.

    ``plan`` is None where there was nothing to choose.
    """

    batch: CircuitBatch
    shots: int
    encoding_error: float
    read: Callable[[Sequence[BackendResult]], Scores]
    extra: CircuitBatch | None = None
    plan: OverlapPlan | None = None
    adaptive: AdaptiveAim | None = None


def exact_scores(query: Query, candidates: Candidates) -> tuple[Candidates, Scores]:
    """Return the candidates that can be an answer, with their classical scores."""
    if len(query.contexts) > 1:
        candidates = superposed.possible(query, candidates)
        return candidates, superposed.exact_scores(query, candidates)
    return candidates, retrieval.score(query, candidates, retrieval.exact_fidelities(query, candidates))


class Refiner:
    """Estimates scores from circuits through the job pool."""

    def __init__(
        self, jobs: JobPool, templates: Templates, clock: Clock, policy: Policy, new_key: Callable[[], str]
    ) -> None:
        self._jobs = jobs
        self._templates = templates
        self._clock = clock
        self._policy = policy
        self._new_key = new_key

    async def refine(
        self, query: Query, candidates: Candidates, classical: Scores, classical_s: float
    ) -> tuple[Scores | None, Refinement]:
        """Return the scores by circuits, or None, and the report that says what ran or why nothing did.

        Args:
            classical_s: wall time of the exact scores, for the measured ratio.
        """
        if MODES[query.mode].shots == 0:
            return None, Refinement(False, "the mode runs no circuits", "exact")
        if not candidates.entity_ids:
            return None, Refinement(False, "there are no candidates", "exact")
        shots, why, wanted = self._routed(query, candidates, classical)
        if not wanted:
            return None, Refinement(False, why, "exact")
        backend = query.backend or self._policy.backend
        start = self._clock.monotonic_s()
        try:
            prepared = await self._prepare(query, candidates, backend, shots)
            self._templates.note(prepared.batch.template)
            results = await self._run(query, prepared, backend)
            scores = prepared.read(results)
        except (Unavailable, Overloaded, JobFailed) as error:
            if self._policy.on_backend_failure == "fail":
                raise
            why = f"{backend} failed, so the order is the classical one: {error.detail}"
            return None, Refinement(False, why, "exact", backend)
        ratio = classical_s / (self._clock.monotonic_s() - start)
        return scores, _report(prepared, results, ratio, why)

    def _routed(self, query: Query, candidates: Candidates, classical: Scores) -> tuple[int, str, bool]:
        """Return the shots of each circuit, the reason for running or skipping them, and whether they run."""
        shots = query.shots or MODES[query.mode].shots
        if len(query.contexts) > 1:
            return shots, "scores of several contexts are always refined", True
        if query.epsilon is not None:
            shots = max(1, query.max_shots // len(candidates.weights))
        way = retrieval.routed(query, candidates, classical, shots)
        if query.refine == "always" and not way.run:
            return shots, "the query asks for it", True
        return shots, way.why, way.run

    async def _prepare(self, query: Query, candidates: Candidates, backend: str, shots: int) -> _Prepared:
        limits = await self._jobs.limits(backend)
        if len(query.contexts) > 1:
            made = superposed.prepare(query, candidates, limits.max_qubits)
            return _Prepared(
                made.batch,
                shots,
                made.encoding_error,
                lambda results: superposed.estimate(query, candidates, made, results[0]),
            )
        rows = retrieval.plan_refinement(query, candidates, limits.max_qubits)
        template = await self._templates.overlap(rows.encoding.num_qubits)
        family: Family = "merged"
        plan = aim = None
        if query.epsilon is not None:
            epsilon = query.epsilon * overlaps.survival_of_merged(rows.encoding, limits)
            aim = AdaptiveAim(query.top_k, epsilon, retrieval.CONFIDENCE, query.max_shots)
        elif query.shots is None and query.mitigation == "none":
            plan = overlaps.plan(rows.encoding, limits, shots)
            family, shots = plan.chosen.family, plan.chosen.shots

        batch = overlaps.bind(family, rows.encoding, template)

        def read(results: Sequence[BackendResult]) -> Scores:
            if query.mitigation == "none":
                found = overlaps.read(family, rows.encoding, limits, results[0], retrieval.CONFIDENCE)
            else:
                found = mitigated.read(query.mitigation, rows.encoding, limits, results, shots, retrieval.CONFIDENCE)
            estimates = retrieval.estimate(rows, found)
            return retrieval.score(query, candidates, estimates.fidelities, estimates)

        extra = None if query.mitigation == "none" else mitigated.extra_job(query.mitigation, batch)
        return _Prepared(batch, shots, rows.encoding.worst_error, read, extra, plan, aim)

    async def _run(self, query: Query, prepared: _Prepared, backend: str) -> list[BackendResult]:
        batches = [prepared.batch] if prepared.extra is None else [prepared.batch, prepared.extra]
        requests = [
            JobRequest(self._new_key(), backend, batch, prepared.shots, query.timeout_s, adaptive=prepared.adaptive)
            for batch in batches
        ]
        return list(await asyncio.gather(*(self._jobs.run(request) for request in requests)))


def _report(prepared: _Prepared, results: Sequence[BackendResult], ratio: float, why: str) -> Refinement:
    batch, selection = prepared.batch, results[0].selection
    return Refinement(
        ran=True,
        why=why,
        provenance=results[0].provenance,
        backend=results[0].backend,
        circuit_key=batch.template.key,
        circuits=len(batch),
        qubits=batch.template.num_qubits,
        shots=sum(sum(counts.values()) for result in results for counts in result.counts),
        rounds=len(results) if selection is None else selection.rounds,
        confidence=None if selection is None else selection.confidence,
        two_qubit_gates=len(batch) * batch.template.two_qubit_gates,
        cost_usd=sum(result.cost_usd for result in results),
        encoding_error=prepared.encoding_error,
        quantum_speedup_ratio=ratio,
        provider_job_ids=tuple(name for result in results for name in result.provider_job_ids),
        plan=None if prepared.plan is None else prepared.plan.view(),
    )
