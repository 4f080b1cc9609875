"""Annealing on selections of fixed size: thermal, and in a transverse field by path-integral Monte Carlo.

Both samplers make the same move on the same arrays, so that a comparison of the two is one of physics and not of code:
a slot of a selection is emptied and refilled from its exact conditional distribution (a heat bath over all swaps of
that member, the member itself among them). Every selection keeps its cardinality at every moment.

The quantum one follows Santoro, Martonak, Tosatti and Car, Science 295, 2427 (2002), and Martonak, Santoro and Tosatti,
Phys. Rev. B 66, 094203 (2002). By Suzuki and Trotter, P slices of a candidate register in a transverse field G at
temperature T become P classical replicas at temperature P T, with energy -f each and a ferromagnetic coupling
``J = -(P T / 2) ln tanh(G / (P T))`` between the same candidate's spins in neighbouring slices of a ring. G is lowered
linearly, the temperature stays. Two points differ from the papers: each slice is projected on the sector of k spins
up, where pairs of flips (swaps) are what is left of the driver; and the global move, which in the papers
flips one spin in all slices, exchanges two candidates in all slices.

This is a classical algorithm on a classical machine; it simulates tunnelling and claims no quantum speed-up. Nor does
the field do everything: a ring that starts with all its slices in a deep wrong valley mostly stays there. It is the
many starting points, drawn together along imaginary time as the field falls, that find the better valley.

Arrays: n replicas, K candidates, k chosen. Temperatures and fields are in units of the landscape's ``spread``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantum_db.errors import InvalidRequest

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

POLISH_ROUNDS = 100
"""Bound on the rounds of the swap descent; it ends by itself after about four, when a round changes nothing."""


@dataclass(frozen=True, slots=True)
class ThermalSchedule:
    """Plain simulated annealing: ``chains`` independent chains, cooled geometrically.

    The defaults do as many slot updates as those of `QuantumSchedule`. Both sets of defaults come from a scan of
    temperatures and fields on random unit vectors (K of 40 and 200), so that neither method is the straw man.

    Attributes:
        chains: how many chains; a quarter of them starts at the seed, the others at random selections.
        sweeps: updates of each slot in each chain.
        start, end: temperatures in units of the spread.
        polish: end with a swap descent of every chain.
    """

    chains: int = 64
    sweeps: int = 20
    start: float = 0.1
    end: float = 0.01
    polish: bool = True

    def __post_init__(self) -> None:
        _require(self.chains >= 1, "schedule.chains", "must be at least 1")
        _require(self.sweeps >= 0, "schedule.sweeps", "must not be negative")
        _require(0 < self.end <= self.start < math.inf, "schedule.end", "needs 0 < end <= start")


@dataclass(frozen=True, slots=True)
class QuantumSchedule:
    """Simulated quantum annealing: ``restarts`` independent rings of ``slices`` replicas.

    Attributes:
        restarts: rings; a quarter of them, at least one, starts at the seed in all slices, the others at selections
            drawn for each slice.
        slices: P, an even number, since even and odd slices are updated in turn.
        sweeps: updates of each slot in each slice.
        temperature: P T in units of the spread; constant.
        field_start, field_end: the transverse field in units of P T, lowered linearly.
        global_moves: exchanges tried in each ring after each sweep.
        polish: end with a swap descent of every slice.
    """

    restarts: int = 4
    slices: int = 16
    sweeps: int = 20
    temperature: float = 0.05
    field_start: float = 1.5
    field_end: float = 0.01
    global_moves: int = 2
    polish: bool = True

    def __post_init__(self) -> None:
        _require(self.restarts >= 1, "schedule.restarts", "must be at least 1")
        _require(self.slices >= 2 and self.slices % 2 == 0, "schedule.slices", "must be even and at least 2")
        _require(self.sweeps >= 0, "schedule.sweeps", "must not be negative")
        _require(self.global_moves >= 0, "schedule.global_moves", "must not be negative")
        _require(0 < self.temperature < math.inf, "schedule.temperature", "must be above 0")
        _require(
            1e-6 <= self.field_end <= self.field_start < math.inf, "schedule.field_end", "needs 1e-6 <= end <= start"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Landscape:
    """The problem in units of its spread: the standard deviation of a candidate's gain over random selections.

    Attributes:
        rewards: (K,).
        repulsion: (K, K), symmetric, the diagonal 0.
        reach: above every difference of two gains.
        k: the cardinality.
    """

    rewards: Floats
    repulsion: Floats
    reach: float
    k: int

    @classmethod
    def build(cls, rewards: Floats, repulsion: Floats, k: int, rng: np.random.Generator) -> Landscape:
        """Return the landscape of ``sum_i rewards_i x_i - sum_{i<j} repulsion_ij x_i x_j``; the diagonal must be 0."""
        sample = random_selections(32, len(rewards), k, rng)
        gains = rewards - repulsion[sample].sum(axis=1)
        spread = float(gains.std())
        largest = max(float(np.abs(rewards).max()), float(np.abs(repulsion).max()))
        if spread <= 1e-9 * largest:  # flat but for rounding: every selection is as good as any other
            spread = largest or 1.0
        rewards, repulsion = rewards / spread, repulsion / spread
        reach = float(np.ptp(rewards)) + 2.0 * k * float(np.abs(repulsion).max())
        return cls(rewards, repulsion, reach, k)


class _Replicas:
    """n selections side by side, the gain of each candidate in each, and the best selection met so far.

    ``gains[a, j]`` is what adding j to replica a would add to f, times ``beta``; it is updated by two rows of the
    repulsion for each swap and never computed anew. On the repulsion's diagonal stands ``exclusion``: what is chosen
    repels itself so strongly that the weight of choosing it twice underflows to 0, and no mask has to be kept.
    ``beta`` may only grow.
    """

    def __init__(self, landscape: Landscape, chosen: Indices, beta: float) -> None:
        self.landscape, self.chosen, self.beta = landscape, chosen, beta
        self.rewards = landscape.rewards * beta
        self.repulsion = landscape.repulsion * beta
        self.exclusion = 1000.0 + 4.0 * landscape.reach * beta  # exp(-746) is 0; bonds take back less than 60
        np.fill_diagonal(self.repulsion, self.exclusion)
        self.gains = np.repeat(self.rewards[None, :], len(chosen), axis=0)
        for slot in range(landscape.k):
            self.gains -= self.repulsion[chosen[:, slot]]
        self.best: Indices = chosen[0].copy()
        self.best_value = -math.inf
        self.keep_best()

    def set_beta(self, beta: float) -> None:
        """Raise the inverse temperature; everything that is in its units grows with it."""
        factor = beta / self.beta
        self.gains *= factor
        self.rewards *= factor
        self.repulsion *= factor
        self.exclusion *= factor
        self.beta = beta

    def keep_best(self) -> None:
        """Note the best replica if it is the best of all times."""
        inside = np.take_along_axis(self.gains, self.chosen, axis=1) + self.exclusion
        # A pair's repulsion lowers the gains of both its members: half of each makes it count once.
        values = (inside + self.rewards[self.chosen]).sum(axis=1) / (2.0 * self.beta)
        top = int(values.argmax())
        if values[top] > self.best_value:
            self.best, self.best_value = self.chosen[top].copy(), float(values[top])

    def polish(self) -> None:
        """Swap each member for the best candidate until no replica gains by any swap."""
        rows = np.arange(len(self.chosen))
        tolerance = 1e-9 * self.beta
        for _ in range(POLISH_ROUNDS):
            changed = False
            for slot in range(self.landscape.k):
                old = self.chosen[:, slot].copy()
                self.gains += self.repulsion[old]
                new = self.gains.argmax(axis=1)
                better = self.gains[rows, new] > self.gains[rows, old] + tolerance
                new = np.where(better, new, old)
                changed = changed or bool(better.any())
                self.chosen[:, slot] = new
                self.gains -= self.repulsion[new]
            if not changed:
                break
        self.keep_best()


def random_selections(count: int, candidates: int, k: int, rng: np.random.Generator) -> Indices:
    """Return ``count`` uniform selections of k out of ``candidates``, shape (count, k)."""
    return np.argpartition(rng.random((count, candidates)), k - 1, axis=1)[:, :k].copy()


def trotter_bond(field: float) -> float:
    """Return what a neighbouring slice that holds a candidate adds to the logarithm of its weight.

    That is ``4 J / (P T)``, since J couples spins 2x - 1. ``field`` is G / (P T).
    """
    return -2.0 * math.log(math.tanh(field))


def anneal_thermal(landscape: Landscape, seed: Indices, schedule: ThermalSchedule, rng: np.random.Generator) -> Indices:
    """Return the best selection of plain simulated annealing, shape (k,). ``seed`` starts a quarter of the chains."""
    chosen = random_selections(schedule.chains, len(landscape.rewards), landscape.k, rng)
    chosen[: schedule.chains // 4] = seed
    replicas = _Replicas(landscape, chosen, 1.0 / schedule.start)
    for temperature in np.geomspace(schedule.start, schedule.end, schedule.sweeps):
        replicas.set_beta(1.0 / float(temperature))
        uniforms = rng.random((landscape.k, schedule.chains, 1))
        _heat_bath(replicas.gains, replicas.chosen, replicas.repulsion, uniforms)
        replicas.keep_best()
    if schedule.polish:
        replicas.polish()
    return replicas.best


def anneal_quantum(landscape: Landscape, seed: Indices, schedule: QuantumSchedule, rng: np.random.Generator) -> Indices:
    """Return the best selection that simulated quantum annealing meets in any slice, shape (k,)."""
    rings, half, k = schedule.restarts, schedule.slices // 2, landscape.k
    # Rows are (parity, ring, pair): slices of one parity have no bond between them and are updated together.
    starts = random_selections(2 * rings * half, len(landscape.rewards), k, rng)
    starts.reshape(2, rings, half, k)[:, : max(1, rings // 4)] = seed
    replicas = _Replicas(landscape, starts, 1.0 / schedule.temperature)
    for field in np.linspace(schedule.field_start, schedule.field_end, schedule.sweeps):
        bond = trotter_bond(float(field))
        for parity in (0, 1):
            _update_parity(replicas, parity, (rings, half), bond, rng)
        replicas.keep_best()
        for _ in range(schedule.global_moves):
            _exchange_everywhere(replicas, (rings, half), rng)
    if schedule.polish:
        replicas.polish()
    else:
        replicas.keep_best()
    return replicas.best


def _update_parity(
    replicas: _Replicas, parity: int, shape: tuple[int, int], bond: float, rng: np.random.Generator
) -> None:
    """Sweep all slots of the slices of one parity, in the field of their neighbours, which stand still meanwhile."""
    rings, half = shape
    rows, candidates = rings * half, len(replicas.rewards)
    mine = slice(parity * rows, (parity + 1) * rows)
    theirs = slice((1 - parity) * rows, (2 - parity) * rows)
    up = np.zeros((rows, candidates))
    np.put_along_axis(up, replicas.chosen[theirs], bond, axis=1)
    ring = up.reshape(rings, half, candidates)
    # Pair m is slices 2m and 2m + 1: an even slice lies between the odd ones of pairs m - 1 and m, an odd slice
    # between the even ones of pairs m and m + 1.
    neighbours = (ring + np.roll(ring, 1 if parity == 0 else -1, axis=1)).reshape(rows, candidates)
    logits = replicas.gains[mine]
    logits += neighbours
    _heat_bath(logits, replicas.chosen[mine], replicas.repulsion, rng.random((replicas.landscape.k, rows, 1)))
    logits -= neighbours


def _heat_bath(logits: Floats, chosen: Indices, repulsion: Floats, uniforms: Floats) -> None:
    """Empty and refill each slot once, in place.

    Args:
        logits: (n, K) logarithms of the weights with which a candidate would be added, up to a constant per row.
        chosen: (n, k).
        repulsion: (K, K) in the units of the logits, the exclusion on its diagonal.
        uniforms: (k, n, 1) in [0, 1).
    """
    work = np.empty_like(logits)
    top = np.empty((len(logits), 1))
    for slot, uniform in enumerate(uniforms):
        # mode="clip" lets take write straight into its output; no index is ever out of range.
        repulsion.take(chosen[:, slot], axis=0, out=work, mode="clip")
        logits += work
        np.maximum.reduce(logits, axis=1, keepdims=True, out=top)
        np.subtract(logits, top, out=work)
        np.exp(work, out=work)
        np.add.accumulate(work, axis=1, out=work)
        # Strictly above: a candidate of weight 0 (one that is chosen already) can't be the first to pass.
        picked = (work > uniform * work[:, -1:]).argmax(axis=1)
        chosen[:, slot] = picked
        repulsion.take(picked, axis=0, out=work, mode="clip")
        logits -= work


def _exchange_everywhere(replicas: _Replicas, shape: tuple[int, int], rng: np.random.Generator) -> None:
    """Try one global move in each ring: candidates i and j change places in all of its slices.

    A relabelling leaves the coupling along imaginary time as it is, so the energies alone decide (Metropolis). The
    proposal (i a member of the first slice, j any candidate) is as likely as its reverse.
    """
    rings, half = shape
    repulsion, exclusion = replicas.repulsion, replicas.exclusion
    gains = replicas.gains.reshape(2, rings, half, -1)
    chosen = replicas.chosen.reshape(2, rings, half, -1)
    every = np.arange(rings)
    i = chosen[0, every, 0, rng.integers(replicas.landscape.k, size=rings)]
    j = rng.integers(gains.shape[-1], size=rings)
    # Both (rings, 2, half): NumPy moves the axis of paired indices to the front.
    gain_i, gain_j = gains[:, every, :, i], gains[:, every, :, j]
    has_i, has_j = gain_i < -0.5 * exclusion, gain_j < -0.5 * exclusion
    swap = has_i.astype(np.float64) - has_j
    difference = (gain_j + exclusion * has_j) - (gain_i + exclusion * has_i)
    change = (swap * difference + np.abs(swap) * repulsion[i, j][:, None, None]).sum(axis=(1, 2))
    accepted = np.nonzero((np.log1p(-rng.random(rings)) < change) & (i != j))[0]
    if len(accepted) == 0:
        return
    rows = (repulsion[i] - repulsion[j])[accepted]
    gains[:, accepted] += swap[accepted].transpose(1, 0, 2)[..., None] * rows[None, :, None, :]
    members = chosen[:, accepted]
    first, second = i[accepted][None, :, None, None], j[accepted][None, :, None, None]
    chosen[:, accepted] = np.where(members == first, second, np.where(members == second, first, members))


def _require(condition: bool, path: str, message: str) -> None:
    if not condition:
        raise InvalidRequest.at(path, message)
