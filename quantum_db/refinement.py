"""The quantum stage of a query: whether circuits run, which, and what their counts say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from quantum_db import overlaps, retrieval, superposed
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
    """The job to run, and how its result becomes scores. ``plan`` is None where there was nothing to choose."""

    batch: CircuitBatch
    shots: int
    encoding_error: float
    read: Callable[[BackendResult], Scores]
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
            request = JobRequest(
                self._new_key(), backend, prepared.batch, prepared.shots, query.timeout_s, adaptive=prepared.adaptive
            )
            result = await self._jobs.run(request)
            scores = prepared.read(result)
        except (Unavailable, Overloaded, JobFailed) as error:
            if self._policy.on_backend_failure == "fail":
                raise
            why = f"{backend} failed, so the order is the classical one: {error.detail}"
            return None, Refinement(False, why, "exact", backend)
        ratio = classical_s / (self._clock.monotonic_s() - start)
        return scores, _report(prepared, result, ratio, why)

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
                lambda result: superposed.estimate(query, candidates, made, result),
            )
        rows = retrieval.plan_refinement(query, candidates, limits.max_qubits)
        template = await self._templates.overlap(rows.encoding.num_qubits)
        family: Family = "merged"
        plan = aim = None
        if query.epsilon is not None:
            epsilon = query.epsilon * overlaps.survival_of_merged(rows.encoding, limits)
            aim = AdaptiveAim(query.top_k, epsilon, retrieval.CONFIDENCE, query.max_shots)
        elif query.shots is None:
            plan = overlaps.plan(rows.encoding, limits, shots)
            family, shots = plan.chosen.family, plan.chosen.shots

        def read(result: BackendResult) -> Scores:
            estimates = retrieval.estimate(rows, family, limits, result)
            return retrieval.score(query, candidates, estimates.fidelities, estimates)

        batch = overlaps.bind(family, rows.encoding, template)
        return _Prepared(batch, shots, rows.encoding.worst_error, read, plan, aim)


def _report(prepared: _Prepared, result: BackendResult, ratio: float, why: str) -> Refinement:
    batch, selection = prepared.batch, result.selection
    return Refinement(
        ran=True,
        why=why,
        provenance=result.provenance,
        backend=result.backend,
        circuit_key=batch.template.key,
        circuits=len(batch),
        qubits=batch.template.num_qubits,
        shots=sum(sum(counts.values()) for counts in result.counts),
        rounds=1 if selection is None else selection.rounds,
        confidence=None if selection is None else selection.confidence,
        two_qubit_gates=len(batch) * batch.template.two_qubit_gates,
        cost_usd=result.cost_usd,
        encoding_error=prepared.encoding_error,
        quantum_speedup_ratio=ratio,
        provider_job_ids=result.provider_job_ids,
        plan=None if prepared.plan is None else prepared.plan.view(),
    )
