"""Puts answers together: kept results and outcomes of runs, several draws, rounds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from quantum_db.backend_ports import BackendResult
from quantum_db.jobs.coalescing import Wish
from quantum_db.jobs.ledger import KeptResult
from quantum_db.jobs.runs import Outcome


def draws_of(shots: int, most: int) -> list[int]:
    """Return the shots of each job that a number of shots takes."""
    whole, rest = divmod(shots, most)
    return [most] * whole + [rest] * (rest > 0 or whole == 0)


def draw_name(first: Hashable, draw: int) -> Hashable:
    """Return what tells a draw from others of the same circuits."""
    return (first, draw) if draw else first


def answer_of(
    wish: Wish, kept: Mapping[str, KeptResult], outcomes: Sequence[Outcome], backend: str, cost_usd: float
) -> BackendResult:
    """Return the answer to a wish: counts in its order, from what was kept and what ran.

    Args:
        outcomes: of runs, with other circuits too.
        cost_usd: of what ran for this caller.
    """
    found: dict[str, Mapping[int, int]] = {digest: result.counts() for digest, result in kept.items()}
    for outcome in outcomes:
        found.update(outcome.counts)
    job_ids = [result.job_id for result in kept.values()] + [name for outcome in outcomes for name in outcome.job_ids]
    provenances = [outcome.provenance for outcome in outcomes] or [result.provenance for result in kept.values()]
    return BackendResult(
        counts=tuple(found[digest] for digest in wish.digests),
        provenance=provenances[0],
        backend=backend,
        cost_usd=cost_usd,
        provider_job_ids=tuple(dict.fromkeys(job_ids)),
        selection=outcomes[0].selection if outcomes else None,
        reused_circuits=len(kept),
    )


def sum_of(results: Sequence[BackendResult]) -> BackendResult:
    """Return several draws of the same circuits, or rounds, as one; the counts of rounds are to be replaced."""
    totals: list[dict[int, int]] = [dict(counts) for counts in results[0].counts]
    for result in results[1:]:
        for total, counts in zip(totals, result.counts, strict=False):
            for outcome, number in counts.items():
                total[outcome] = total.get(outcome, 0) + number
    return replace(
        results[-1],
        counts=tuple(totals),
        cost_usd=sum(result.cost_usd for result in results),
        provider_job_ids=tuple(dict.fromkeys(name for result in results for name in result.provider_job_ids)),
        reused_circuits=sum(result.reused_circuits for result in results),
    )
