"""Diverse hits on request: relevance against similarity, solved by simulated quantum annealing or by QAOA circuits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_choice import AUTO
from quantum_db.backend_ports import JobPool, JobRequest
from quantum_db.circuits.qaoa import plan_qaoa, read_counts
from quantum_db.circuits.qaoa_ansatz import diverse_selection
from quantum_db.errors import DeadlineExceeded
from quantum_db.jobs.budget import SpendingLimit
from quantum_db.model import Candidates, Hit, Query
from quantum_db.retrieval import Scores
from quantum_db.tunneling import Selection, greedy, tunnel

Array = NDArray[np.float64]

DIVERSITY = 0.1
"""How much a pair's similarity costs against relevance; docs/queries.md tells what other weights do."""

QAOA_HITS = 10
QAOA_LAYERS = 4
QAOA_SHOTS = 1_024


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Choose ``count`` of the hits: their scores, and the squared cosines of their vectors."""

    relevance: Array
    similarity: Array
    count: int


class Diversifier:
    """Chooses ``top_k`` hits that are relevant and differ from each other; see ``quantum_db.tunneling``."""

    def __init__(
        self, jobs: JobPool, rng: np.random.Generator, default_backend: str, new_key: Callable[[], str]
    ) -> None:
        self._jobs = jobs
        self._rng = rng
        self._default_backend = default_backend
        self._new_key = new_key

    async def choose(
        self, query: Query, candidates: Candidates, hits: tuple[Hit, ...], scores: Scores, limit: SpendingLimit
    ) -> tuple[tuple[Hit, ...], dict[str, Any]]:
        """Return the chosen hits, best first, and the report. Never worse than greedy on the same hits.

        Args:
            limit: what the circuits of the solver ``qaoa`` may cost.

        Raises what ``JobPool.run`` raises, with the solver ``qaoa``.
        """
        count = min(query.top_k, len(hits))
        solver = query.tunneling_solver
        if count == 0:
            return (), {"solver": solver, "diversity": DIVERSITY, "gain_over_greedy": 0.0, "missed_by_greedy": []}
        if solver == "qaoa":
            problem = _problem(candidates, hits[:QAOA_HITS], scores, count)
            return await self._by_qaoa(query, problem, hits, limit)
        problem = _problem(candidates, hits, scores, count)
        found = await asyncio.to_thread(
            tunnel, problem.relevance, problem.similarity, problem.count, DIVERSITY, self._rng
        )
        return _chosen(hits, found.selection), _report(solver, hits, found.selection, found.greedy)

    async def _by_qaoa(
        self, query: Query, problem: _Problem, hits: tuple[Hit, ...], limit: SpendingLimit
    ) -> tuple[tuple[Hit, ...], dict[str, Any]]:
        """Sample a QAOA circuit of the best ``QAOA_HITS`` hits. A demonstration: see the benchmark."""
        first = greedy(problem.relevance, problem.similarity, problem.count, DIVERSITY)
        backend = query.backend if query.backend not in (None, AUTO) else self._default_backend
        qubo = diverse_selection(problem.relevance, problem.similarity, problem.count, DIVERSITY)
        try:
            async with asyncio.timeout(query.timeout_s if query.on_timeout == "classical" else None):
                plan = await asyncio.to_thread(plan_qaoa, qubo, QAOA_LAYERS, self._rng)
                request = JobRequest(
                    self._new_key(),
                    backend,
                    (plan.batch,),
                    QAOA_SHOTS,
                    query.timeout_s,
                    tenant=query.tenant,
                    limit=limit,
                )
                run = await self._jobs.run(request)
        except (TimeoutError, DeadlineExceeded):
            if query.on_timeout == "error":
                raise
            why = f"{backend} had no result in time, so the choice is the greedy one"
            return _chosen(hits, first), {**_report("qaoa", hits, first, first), "why": why}
        sampled = read_counts(plan, run.counts[0])
        best = first
        if sampled.selection is not None and sampled.selection.value > first.value:
            best = sampled.selection
        return _chosen(hits, best), {
            **_report("qaoa", hits, best, first),
            "layers": plan.layers,
            "shots": sampled.shots,
            "optimum_shots": sampled.optimum_shots,
            "optimum_probability": plan.optimum_probability,
            "uniform_probability": plan.uniform_probability,
            "backend": run.backend,
            "provenance": run.provenance,
            "cost_usd": run.cost_usd,
        }


def _problem(candidates: Candidates, hits: tuple[Hit, ...], scores: Scores, count: int) -> _Problem:
    place = {entity_id: index for index, entity_id in enumerate(candidates.entity_ids)}
    rows = scores.best_row[[place[hit.id] for hit in hits]]
    vectors = candidates.vectors[rows].astype(np.float64)
    similarity = (vectors @ vectors.T).clip(0.0, 1.0) ** 2
    similarity = (similarity + similarity.T) / 2.0
    np.fill_diagonal(similarity, 0.0)
    return _Problem(np.array([hit.score for hit in hits]), similarity, min(count, len(hits)))


def _chosen(hits: tuple[Hit, ...], selection: Selection) -> tuple[Hit, ...]:
    return tuple(hits[index] for index in selection.indices)


def _report(solver: str, hits: tuple[Hit, ...], best: Selection, first: Selection) -> dict[str, Any]:
    missed = [hits[index].id for index in best.indices if index not in first.indices]
    gain = best.value - first.value
    return {"solver": solver, "diversity": DIVERSITY, "gain_over_greedy": gain, "missed_by_greedy": missed}
