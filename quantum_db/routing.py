"""Routing: run the quantum stage only where it can change the answer.

With infinitely many shots the circuits give the exact order; with finitely many they give F_i + sigma_i Z_i. So where
the exact margins are wide against sigma, the circuits would return what is known already. By the union bound

    P(order of the first k changes) <= sum_{i<k} tail(i, i+1) + sum_{j>k} tail(k, j),
    P(set of the first k changes)   <= sum_{i<=k<j} tail(i, j),
    tail(i, j) = P(Z > (F_i - F_j) / sqrt(sigma_i^2 + sigma_j^2)),

with candidates in exact order. The stage is skipped if the bound is at most 1 - confidence: then, with at least the
asked confidence, the answer is the same without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.adaptive import normal_tail

Array = NDArray[np.float64]
Aim = Literal["order", "set"]


@dataclass(frozen=True, slots=True)
class Route:
    """Whether the circuits run, and why.

    Attributes:
        change_bound: the bound on the probability that they would change the answer, at most 1.
        margin: the smallest gap between the k-th and the k+1-th exact score; infinite if nothing is left out.
    """

    run: bool
    why: str
    change_bound: float
    margin: float


def binomial_errors(fidelities: Array, shots: int) -> Array:
    """Return sqrt(F (1 - F) / shots), (K,): the standard errors of sampled fidelities."""
    return np.sqrt(np.clip(fidelities * (1.0 - fidelities), 0.0, None) / shots)


def route(
    scores: Array,
    standard_errors: Array,
    top_k: int,
    confidence: float,
    *,
    aim: Aim = "order",
    circuits: NDArray[np.intp] | None = None,
) -> Route:
    """Decide whether the quantum stage runs.

    Args:
        scores: (K,) exact classical scores.
        standard_errors: (K,) of the scores that the circuits would give with the shots on offer.
        top_k: length of the answer, >= 1.
        confidence: that the mode asks for, in (0, 1).
        aim: what must not change, the order of the answer or only its set.
        circuits: (K,) the circuit of each candidate; those that share one are never told apart by shots.

    Raises:
        ValueError: shapes differ, ``top_k`` < 1 or ``confidence`` is outside of (0, 1).
    """
    if scores.ndim != 1 or scores.shape != standard_errors.shape or top_k < 1 or not 0.0 < confidence < 1.0:
        raise ValueError("scores and standard_errors have one shape (K,), top_k >= 1 and 0 < confidence < 1")
    order = np.argsort(-scores, kind="stable")
    better, worse = _pairs(order, top_k, aim)
    if circuits is not None:
        apart = circuits[better] != circuits[worse]
        better, worse = better[apart], worse[apart]
    gaps = scores[better] - scores[worse]
    spread = np.hypot(standard_errors[better], standard_errors[worse])
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0.0, gaps / spread, np.where(gaps > 0.0, np.inf, 0.0))
    bound = min(1.0, float(normal_tail(z).sum()))
    margin = float(scores[order[top_k - 1]] - scores[order[top_k]]) if top_k < scores.size else float("inf")
    run = bound > 1.0 - confidence
    what = f"the {aim} of the first {min(top_k, scores.size)}"
    verdict = (
        f"shots may change {what} (bound {bound:.3g}, above {1.0 - confidence:.3g})"
        if run
        else f"the classical margin decides {what}: circuits would change it with probability at most {bound:.2g}"
    )
    return Route(run, verdict, bound, margin)


def _pairs(order: NDArray[np.intp], top_k: int, aim: Aim) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pairs (better, worse) whose swaps change the answer."""
    inside, outside = order[:top_k], order[top_k:]
    if aim == "set":
        return np.repeat(inside, outside.size), np.tile(outside, inside.size)
    better = np.concatenate([inside[:-1], np.repeat(inside[-1:], outside.size)])
    return better, np.concatenate([inside[1:], outside])


@dataclass(frozen=True, slots=True)
class RoutingReport:
    """What routing did on many queries.

    Attributes:
        skipped_share: of queries whose circuits did not run.
        changed_share: of the skipped ones, how many answers the circuits would have changed.
        changed_share_of_run: the same of those that ran.
    """

    queries: int
    skipped_share: float
    changed_share: float
    changed_share_of_run: float


def report(
    queries: Iterable[Array],
    shots: int,
    top_k: int,
    confidence: float,
    rng: np.random.Generator,
    *,
    aim: Aim = "order",
) -> RoutingReport:
    """Route each query and draw its shots all the same, to see whether the answer would have changed.

    Args:
        queries: each query's exact fidelities, (K,).
        shots: of each circuit.
        rng: draws the counts.
    """
    skipped, changed = [], []
    for fidelities in queries:
        decision = route(fidelities, binomial_errors(fidelities, shots), top_k, confidence, aim=aim)
        estimates = rng.binomial(shots, np.clip(fidelities, 0.0, 1.0)) / shots
        exact = np.argsort(-fidelities, kind="stable")[:top_k]
        drawn = np.lexsort((-fidelities, -estimates))[
            :top_k
        ]  # equal counts stay in the exact order, as in the database
        same = np.array_equal(exact, drawn) if aim == "order" else set(exact) == set(drawn)
        skipped.append(not decision.run)
        changed.append(not same)
    past, other = np.array(skipped, dtype=bool), np.array(changed, dtype=bool)
    return RoutingReport(
        len(past), *(float(part.mean()) if part.size else 0.0 for part in (past, other[past], other[~past]))
    )
