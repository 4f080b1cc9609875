"""Choosing k of K candidates that are relevant and not all alike.

The objective is ``f(x) = sum_i r_i x_i - mu sum_{i<j} s_ij x_i x_j`` with ``|x| = k``: r the relevances, s the
similarities, mu the weight of diversity. Its maximum is NP-hard to find, and a greedy choice (maximal marginal
relevance: Carbonell and Goldstein, SIGIR 1998) can be stuck: to leave its selection, several members must change at
once, and each change alone is a loss. `tunnel` runs greedy and simulated quantum annealing and keeps the better.

What is here, all on the same objective:

- `greedy`: the baseline.
- `exact`: branch and bound with a proof, for small K.
- `simulated_annealing`: the thermal peer, with the same move, the same number of updates and the same final descent.
- `simulated_quantum_annealing`: path-integral Monte Carlo in a transverse field; see `quantum_db.annealing`.

Both annealers end with a swap descent ("polish"), which is not physics and is the same for both. Nothing here is a
quantum computation or a claim of speed-up. `benchmarks/tunneling.py` measures all of them against each other: at some
30 candidates the two annealers are equally good, and a mere swap descent or, where diversity weighs little, the proof
is cheaper; at 200 candidates the quantum one comes closest to the best value known.

The diagonal of s is never read. Relevances and similarities may have any finite value and sign; mu is not negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantum_db.annealing import Landscape, QuantumSchedule, ThermalSchedule, anneal_quantum, anneal_thermal
from quantum_db.errors import InvalidRequest

Floats = NDArray[np.float64]

EXACT_MAX_CANDIDATES = 40
"""Above this, `exact` refuses at once: the tree is too large even where the bounds are good."""
EXACT_MAX_NODES = 1_000_000
"""Partial selections that `exact` looks at before it gives up; some 15 seconds."""

_ASYMMETRY = 1e-6
"""Tolerated difference of s_ij and s_ji, relative to the largest |s| (at least 1): what float32 products leave."""
_TIE = 1e-12
"""Differences of f below this, relative to the size of its terms, are rounding."""
_BLOCK = 2048
"""Nodes that the branch and bound expands in one array operation."""


@dataclass(frozen=True, slots=True)
class Selection:
    """k candidates: their indices by falling relevance (then by index), f of them, and the solver's name."""

    indices: tuple[int, ...]
    value: float
    solver: str


@dataclass(frozen=True, slots=True)
class TunnelingResult:
    """What `tunnel` found.

    Attributes:
        selection: the better of the two; greedy's where annealing found nothing above it.
        greedy: the baseline.
        gain: ``selection.value - greedy.value``, never negative.
        relative_gain: the gain over ``abs(greedy.value)``; None if that is 0 (but for rounding) and the gain isn't.
        missed: indices in the selection that greedy leaves out, by falling relevance.
        dropped: indices of greedy's choice that aren't in the selection, by falling relevance.
    """

    selection: Selection
    greedy: Selection
    gain: float
    relative_gain: float | None
    missed: tuple[int, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Checked input: r (K,), mu s (K, K) symmetric with a zero diagonal, and k."""

    relevance: Floats
    repulsion: Floats
    k: int

    @classmethod
    def check(cls, relevance: ArrayLike, similarity: ArrayLike, k: int, diversity: float) -> _Problem:
        """Return the problem, or raise `InvalidRequest` with the path of what is wrong."""
        r, repulsion = _checked_terms(relevance, similarity, diversity)
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= len(r):
            raise InvalidRequest.at("k", f"must be a whole number from 1 to the number of candidates ({len(r)})")
        return cls(r, repulsion, int(k))

    def value(self, chosen: NDArray[np.intp]) -> float:
        return _value(self.relevance, self.repulsion, chosen)

    def selection(self, chosen: NDArray[np.intp], solver: str) -> Selection:
        by_index = np.sort(chosen)
        ordered = by_index[np.argsort(-self.relevance[by_index], kind="stable")]
        return Selection(tuple(ordered.tolist()), self.value(ordered), solver)

    def greedy(self) -> NDArray[np.intp]:
        gains, chosen = self.relevance.copy(), np.empty(self.k, dtype=np.intp)
        for slot in range(self.k):
            chosen[slot] = best = int(gains.argmax())
            gains -= self.repulsion[best]
            gains[best] = -np.inf
        return chosen

    def is_greedy_optimal(self) -> bool:
        """True where no pair of terms competes: greedy is then the maximum, and nothing need be annealed."""
        return self.k == 1 or self.k == len(self.relevance) or not self.repulsion.any()


def objective(relevance: ArrayLike, similarity: ArrayLike, chosen: Sequence[int], diversity: float) -> float:
    """Return f of a selection.

    Args:
        relevance: (K,) r.
        similarity: (K, K) s, symmetric; the diagonal is not read.
        chosen: distinct indices below K, in any order and number.
        diversity: mu, not negative.

    Raises:
        InvalidRequest: with the path of what is wrong.
    """
    r, repulsion = _checked_terms(relevance, similarity, diversity)
    seen: set[int] = set()
    for place, index in enumerate(chosen):
        if not isinstance(index, int | np.integer) or not 0 <= index < len(r) or index in seen:
            raise InvalidRequest.at(f"chosen[{place}]", f"must be an index below {len(r)} that is given once")
        seen.add(index)
    return _value(r, repulsion, np.array(chosen, dtype=np.intp))


def greedy(relevance: ArrayLike, similarity: ArrayLike, k: int, diversity: float) -> Selection:
    """Return the choice that adds, k times, the candidate of the largest marginal gain; of equals the first.

    Args and errors as for `simulated_quantum_annealing`.
    """
    problem = _Problem.check(relevance, similarity, k, diversity)
    return problem.selection(problem.greedy(), "greedy")


def simulated_annealing(
    relevance: ArrayLike,
    similarity: ArrayLike,
    k: int,
    diversity: float,
    rng: np.random.Generator,
    *,
    schedule: ThermalSchedule | None = None,
) -> Selection:
    """Return the best selection of plain thermal annealing (Kirkpatrick, Gelatt and Vecchi, Science 220, 671, 1983).

    Args and errors as for `simulated_quantum_annealing`; a quarter of the chains starts at the greedy choice.
    """
    problem = _Problem.check(relevance, similarity, k, diversity)
    landscape = Landscape.build(problem.relevance, problem.repulsion, problem.k, rng)
    chosen = anneal_thermal(landscape, problem.greedy(), schedule or ThermalSchedule(), rng)
    return problem.selection(chosen, "simulated annealing")


def simulated_quantum_annealing(
    relevance: ArrayLike,
    similarity: ArrayLike,
    k: int,
    diversity: float,
    rng: np.random.Generator,
    *,
    schedule: QuantumSchedule | None = None,
) -> Selection:
    """Return the best selection of simulated quantum annealing (Santoro et al., Science 295, 2427, 2002).

    Args:
        relevance: (K,) r.
        similarity: (K, K) s, symmetric; the diagonal is not read.
        k: how many to choose, 1 to K.
        diversity: mu, not negative.
        rng: the source of all randomness; equal generators give equal answers.
        schedule: how long, how cold, how many replicas.

    Raises:
        InvalidRequest: with the path of what is wrong.
    """
    problem = _Problem.check(relevance, similarity, k, diversity)
    return problem.selection(_quantum(problem, problem.greedy(), schedule, rng), "simulated quantum annealing")


def tunnel(
    relevance: ArrayLike,
    similarity: ArrayLike,
    k: int,
    diversity: float,
    rng: np.random.Generator,
    *,
    schedule: QuantumSchedule | None = None,
) -> TunnelingResult:
    """Return the better of greedy and simulated quantum annealing, with the difference between them.

    Where greedy is the maximum by construction (k = 1, k = K, or no repulsion), nothing is annealed.
    Args and errors as for `simulated_quantum_annealing`.
    """
    problem = _Problem.check(relevance, similarity, k, diversity)
    seed = problem.greedy()
    baseline = best = problem.selection(seed, "greedy")
    rounding = _TIE * k * (float(np.abs(problem.relevance).max()) + k * float(np.abs(problem.repulsion).max()))
    if not problem.is_greedy_optimal():
        annealed = problem.selection(_quantum(problem, seed, schedule, rng), "simulated quantum annealing")
        if annealed.value > baseline.value + rounding:
            best = annealed
    gain = best.value - baseline.value
    return TunnelingResult(
        selection=best,
        greedy=baseline,
        gain=gain,
        relative_gain=_relative(gain, baseline.value, rounding),
        missed=tuple(index for index in best.indices if index not in baseline.indices),
        dropped=tuple(index for index in baseline.indices if index not in best.indices),
    )


def exact(
    relevance: ArrayLike, similarity: ArrayLike, k: int, diversity: float, *, max_nodes: int = EXACT_MAX_NODES
) -> Selection:
    """Return a proven maximum of f (up to rounding), by branch and bound.

    Candidates are decided in order of relevance. With t members still to choose among candidates C, adding j can't
    bring more than its gain minus half of its t - 1 smallest repulsions within C, since each pair's repulsion
    counts half for either end; the t largest such bounds, added to f so far, bound the node.

    Args and errors as for `simulated_quantum_annealing`, and:
        max_nodes: partial selections to look at before giving up.

    Raises:
        InvalidRequest: with the path of what is wrong; with ``relevance`` where K is above `EXACT_MAX_CANDIDATES`,
            with ``max_nodes`` where no proof was found within that many nodes.
    """
    problem = _Problem.check(relevance, similarity, k, diversity)
    if len(problem.relevance) > EXACT_MAX_CANDIDATES:
        raise InvalidRequest.at("relevance", f"an exact answer is given for at most {EXACT_MAX_CANDIDATES} candidates")
    return problem.selection(_branch_and_bound(problem, max_nodes), "exact")


def _quantum(
    problem: _Problem, seed: NDArray[np.intp], schedule: QuantumSchedule | None, rng: np.random.Generator
) -> NDArray[np.intp]:
    landscape = Landscape.build(problem.relevance, problem.repulsion, problem.k, rng)
    return anneal_quantum(landscape, seed, schedule or QuantumSchedule(), rng)


@dataclass(frozen=True, slots=True, eq=False)
class _Nodes:
    """Partial selections that have decided the same candidates and have the same number left to choose.

    Attributes:
        decided: how many candidates, in the order of the search, are decided.
        left: how many are still to be chosen.
        values: (b,) f of what is chosen so far.
        gains: (b, K - decided) what each undecided candidate would add to it.
        masks: (b,) what is chosen, candidate p as bit p.
    """

    decided: int
    left: int
    values: Floats
    gains: Floats
    masks: NDArray[np.int64]

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> _Nodes:
        return _Nodes(self.decided, self.left, self.values[rows], self.gains[rows], self.masks[rows])

    def children(self, repulsion: Floats) -> tuple[_Nodes, _Nodes]:
        """Return the nodes without and with the next candidate."""
        p = self.decided
        rest, taken = self.gains[:, 1:], self.values + self.gains[:, 0]
        without = _Nodes(p + 1, self.left, self.values, rest, self.masks)
        return without, _Nodes(p + 1, self.left - 1, taken, rest - repulsion[p, p + 1 :], self.masks | np.int64(1 << p))


def _branch_and_bound(problem: _Problem, max_nodes: int) -> NDArray[np.intp]:
    """Return the indices of a maximum. Depth first, in blocks of nodes; those with the candidate come first."""
    seed = problem.greedy()
    if problem.is_greedy_optimal():
        return seed
    # A good incumbent prunes; that it comes from a descent does not touch the proof.
    rng = np.random.default_rng(0)
    landscape = Landscape.build(problem.relevance, problem.repulsion, problem.k, rng)
    chosen = anneal_thermal(landscape, seed, ThermalSchedule(sweeps=0), rng)
    best = problem.value(chosen)
    order = np.argsort(-problem.relevance, kind="stable")
    repulsion = problem.repulsion[np.ix_(order, order)]
    least = _least_repulsions(repulsion)
    rounding = _TIE * (float(np.abs(problem.relevance).sum()) + float(np.abs(repulsion).sum()))
    root = _Nodes(0, problem.k, np.zeros(1), problem.relevance[order][None, :], np.zeros(1, dtype=np.int64))
    stack, seen = [root], 0
    while stack:
        nodes = stack.pop()
        if len(nodes.values) > _BLOCK:
            stack.append(nodes[_BLOCK:])
            nodes = nodes[:_BLOCK]
        seen += len(nodes.values)
        if seen > max_nodes:
            raise InvalidRequest.at("max_nodes", f"no proof within {max_nodes} partial selections")
        for child in nodes.children(repulsion):
            undecided = child.gains.shape[1]
            if child.left > undecided:
                continue
            bounds = child.gains - 0.5 * least[child.decided][:, child.left - 1]
            top = np.argpartition(bounds, undecided - child.left, axis=1)[:, undecided - child.left :]
            limits = child.values + np.take_along_axis(bounds, top, axis=1).sum(axis=1)
            alive = limits > best + rounding
            if child.left in (1, undecided):  # no choice is left, and the bound is the value
                if alive.any():
                    row = int(limits.argmax())
                    best = float(limits[row])
                    inside = [p for p in range(child.decided) if int(child.masks[row]) >> p & 1]
                    chosen = order[np.array([*inside, *(child.decided + top[row])], dtype=np.intp)]
            elif alive.any():
                stack.append(child[alive])
    return chosen


def _least_repulsions(repulsion: Floats) -> list[Floats]:
    """Return, for p = 0..K-1, the array (K - p, K - p) of sums of j's m smallest repulsions among candidates p..K-1."""
    sums = []
    for p in range(len(repulsion)):
        rest = repulsion[p:, p:].copy()
        np.fill_diagonal(rest, np.inf)
        rest.sort(axis=1)
        sums.append(np.concatenate([np.zeros((len(rest), 1)), np.cumsum(rest[:, :-1], axis=1)], axis=1))
    return sums


def _value(relevance: Floats, repulsion: Floats, chosen: NDArray[np.intp]) -> float:
    return float(relevance[chosen].sum() - 0.5 * repulsion[np.ix_(chosen, chosen)].sum())


def _relative(gain: float, baseline: float, rounding: float) -> float | None:
    if gain == 0.0:
        return 0.0
    return gain / abs(baseline) if abs(baseline) > rounding else None


def _checked_terms(relevance: ArrayLike, similarity: ArrayLike, diversity: float) -> tuple[Floats, Floats]:
    """Return r and mu s with a zero diagonal, or raise `InvalidRequest` with the path of what is wrong."""
    r, s = _numbers("relevance", relevance, 1), _numbers("similarity", similarity, 2)
    count = len(r)
    if count == 0:
        raise InvalidRequest.at("relevance", "must hold at least one candidate")
    if s.shape != (count, count):
        raise InvalidRequest.at("similarity", f"must be {count} by {count}, one row and column for each relevance")
    weight = float(_numbers("diversity", diversity, 0))
    if weight < 0:
        raise InvalidRequest.at("diversity", "must not be negative")
    apart = np.abs(s - s.T)
    i, j = divmod(int(apart.argmax()), count)
    if apart[i, j] > _ASYMMETRY * max(1.0, float(np.abs(s).max())):
        raise InvalidRequest.at(f"similarity[{i}][{j}]", f"must equal similarity[{j}][{i}]")
    return r, 0.5 * weight * (s + s.T)


def _numbers(path: str, given: ArrayLike, dimensions: int) -> Floats:
    try:
        array = np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidRequest.at(path, "must be numbers, in rows of equal length") from error
    if array.ndim != dimensions:
        raise InvalidRequest.at(path, f"must have {dimensions} dimension(s), not {array.ndim}")
    if dimensions == 2 and array.size:
        np.fill_diagonal(array, 0.0)  # the diagonal is not read
    bad = np.argwhere(~(np.abs(array) < 1e100))
    if len(bad):
        place = "".join(f"[{index}]" for index in bad[0])
        raise InvalidRequest.at(path + place, "must be a finite number, below 1e100 in size")
    return array
