"""The quantum stage of a query: whether circuits run, which, and what their counts say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from quantum_db import mitigated, overlaps, retrieval, superposed
from quantum_db.backend_choice import AUTO, BackendChoice, choose, options_for
from quantum_db.backend_ports import AdaptiveAim, BackendResult, JobPool, JobRequest
from quantum_db.circuits.planner import Family, OverlapPlan
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import DeadlineExceeded, JobCanceled, JobFailed, Overloaded, QuantumDBError, Unavailable
from quantum_db.model import Candidates, Query, Refinement
from quantum_db.modes import MODES
from quantum_db.ports import Clock, Templates
from quantum_db.retrieval import Scores


@dataclass(frozen=True, slots=True)
class Policy:
    """How queries run unless they say otherwise.

    Attributes:
        backend: the quantum backend of queries that name none.
        on_backend_failure: when a backend fails or takes no work, answer with the classical order, run the circuits on
            ``fallback_backend``, or fail. An answer says which happened.
        fallback_backend: one that runs in the workers, and so cannot fail with the provider.
    """

    backend: str = "simulator"
    on_backend_failure: Literal["classical", "simulator", "fail"] = "classical"
    fallback_backend: str = "simulator"


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
            query: with the time that circuits have as its timeout. What happens when they take longer is its
                ``on_timeout``.
            classical_s: wall time of the exact scores, for the measured ratio.

        Raises:
            DeadlineExceeded: with ``on_timeout`` error.
        """
        if MODES[query.mode].shots == 0:
            return None, Refinement(False, "the mode runs no circuits", "exact")
        if not candidates.entity_ids:
            return None, Refinement(False, "there are no candidates", "exact")
        shots, why, wanted = self._routed(query, candidates, classical)
        if not wanted:
            return None, Refinement(False, why, "exact")
        if query.on_timeout == "error":
            return await self._by_circuits(query, candidates, classical_s, shots, why)
        try:
            async with asyncio.timeout(query.timeout_s):
                return await self._by_circuits(query, candidates, classical_s, shots, why)
        except (TimeoutError, DeadlineExceeded):
            backend = query.backend or self._policy.backend
            why = f"{backend} had no result in time, so the order is the classical one"
            return None, Refinement(False, why, "exact", None if backend == AUTO else backend, fell_back=True)

    async def _by_circuits(
        self, query: Query, candidates: Candidates, classical_s: float, shots: int, why: str
    ) -> tuple[Scores | None, Refinement]:
        """Choose a backend and run on it, or on what the policy has for one that fails."""
        backend, routing = query.backend or self._policy.backend, None
        if backend == AUTO:
            choice = await self._choose(query, candidates, shots)
            routing = choice.view()
            if choice.backend is None:
                return None, Refinement(False, choice.why, "exact", routing=routing, fell_back=True)
            backend = choice.backend
        try:
            scores, report = await self._run_on(backend, query, candidates, classical_s, shots, why)
        except (Unavailable, Overloaded, JobFailed, JobCanceled) as error:
            return await self._fall_back(error, backend, query, candidates, classical_s, shots, routing)
        return scores, replace(report, routing=routing)

    async def _fall_back(
        self,
        error: QuantumDBError,
        backend: str,
        query: Query,
        candidates: Candidates,
        classical_s: float,
        shots: int,
        routing: Mapping[str, Any] | None,
    ) -> tuple[Scores | None, Refinement]:
        """Do what the policy says of a backend that failed; say so in the report."""
        policy = self._policy
        if policy.on_backend_failure == "fail":
            raise error
        if policy.on_backend_failure == "simulator" and backend != policy.fallback_backend:
            why = f"{backend} failed, so {policy.fallback_backend} ran instead: {error.detail}"
            scores, report = await self._run_on(policy.fallback_backend, query, candidates, classical_s, shots, why)
            return scores, replace(report, routing=routing, fell_back=True)
        why = f"{backend} failed, so the order is the classical one: {error.detail}"
        return None, Refinement(False, why, "exact", backend, routing=routing, fell_back=True)

    async def _run_on(
        self, backend: str, query: Query, candidates: Candidates, classical_s: float, shots: int, why: str
    ) -> tuple[Scores, Refinement]:
        start = self._clock.monotonic_s()
        prepared = await self._prepare(query, candidates, backend, shots)
        self._templates.note(prepared.batch.template)
        parts = (prepared.batch,) if prepared.extra is None else (prepared.batch, prepared.extra)
        request = JobRequest(
            self._new_key(),
            backend,
            parts,
            prepared.shots,
            query.timeout_s,
            tenant=query.tenant,
            limit=query.budget,
            adaptive=prepared.adaptive,
        )
        result = await self._jobs.run(request)
        scores = prepared.read(_by_part(parts, result))
        ratio = classical_s / (self._clock.monotonic_s() - start)
        return scores, _report(prepared, result, ratio, why, query.explain)

    async def _choose(self, query: Query, candidates: Candidates, shots: int) -> BackendChoice:
        """Choose the backend for a query that leaves it open."""
        conditions = await self._jobs.conditions()
        encodings = {
            name: retrieval.plan_refinement(query, candidates, condition.limits.max_qubits).encoding
            for name, condition in conditions.items()
        }
        return choose(options_for(encodings, conditions, shots), query.budget, query.timeout_s)

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


def _by_part(parts: Sequence[CircuitBatch], result: BackendResult) -> list[BackendResult]:
    """Return the result of each part."""
    found, start = [], 0
    for part in parts:
        found.append(replace(result, counts=result.counts[start : start + len(part)]))
        start += len(part)
    return found


def _report(prepared: _Prepared, result: BackendResult, ratio: float, why: str, explain: bool) -> Refinement:
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
        reused_circuits=result.reused_circuits,
        plan=prepared.plan.view() if explain and prepared.plan is not None else None,
    )
