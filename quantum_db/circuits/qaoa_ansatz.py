"""QUBOs, and the circuits that QAOA runs for them. What they are for is told in `quantum_db.circuits.qaoa`.

The ansatz (Farhi, Goldstone, Gutmann, arXiv:1411.4028) alternates p times between exp(-i g H) with H = -f / scale, as
RZ and RZZ, and a mixer. Two mixers are here:

- ``xy-ring``, for a fixed cardinality k: the circuit starts in the Dicke state, the even superposition of all
  selections of k (Baertschi, Eidenbenz, arXiv:1904.07358), and exp(-i b (XX + YY)/2) on the pairs of a ring, each as
  two RZZ, moves members without changing their number (Wang, Rubin, Dominy, Rieffel, arXiv:1904.09314). Every
  shot of an ideal machine is feasible. Where there are sectors each has a Dicke state and a ring of its own.
- ``x``: Hadamards, and RX on each qubit. A cardinality is then a penalty in H, and a shot may be infeasible.

Variable i is qubit i, the bit i of an outcome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quantum_db.circuits.template import CX, CircuitBatch, H, MultiplexedRY, Rotation, Step, Template, content_key
from quantum_db.errors import InvalidRequest

Floats = NDArray[np.float64]
Mixer = Literal["xy-ring", "x"]
Sector = tuple[tuple[int, ...], int]
"""Variables, and how many of them are 1."""

MAX_VARIABLES: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class Qubo:
    """Maximise f(x) = sum_i l_i x_i + sum_{i<j} q_ij x_i x_j over bits, all of them or those with sum ``cardinality``.

    Attributes:
        linear: (n,), finite.
        quadratic: (n, n), finite and symmetric; the diagonal is 0.
        sectors: instead of a cardinality of all, parts of the variables with how many of each are 1; together they
            hold each variable once.

    Raises:
        InvalidRequest: with the path of what is wrong.
    """

    linear: Floats
    quadratic: Floats
    cardinality: int | None = None
    sectors: tuple[Sector, ...] = ()

    def __post_init__(self) -> None:
        n = self.linear.size
        if self.linear.ndim != 1 or not 1 <= n <= MAX_VARIABLES:
            raise InvalidRequest.at("linear", f"must be a list of 1 to {MAX_VARIABLES} numbers")
        if self.quadratic.shape != (n, n):
            raise InvalidRequest.at("quadratic", f"must be {n} by {n}")
        if not (np.isfinite(self.linear).all() and np.isfinite(self.quadratic).all()):
            raise InvalidRequest.at("quadratic", "every number of linear and quadratic must be finite")
        if (self.quadratic != self.quadratic.T).any() or self.quadratic.diagonal().any():
            raise InvalidRequest.at("quadratic", "must be symmetric with a zero diagonal")
        if self.cardinality is not None and not 1 <= self.cardinality <= n:
            raise InvalidRequest.at("cardinality", f"must be from 1 to {n}")
        if self.sectors:
            _check_sectors(self)

    @property
    def conserved(self) -> tuple[Sector, ...]:
        """The parts whose number of ones is fixed: the sectors, or all variables with the cardinality, or none."""
        if self.sectors or self.cardinality is None:
            return self.sectors
        return ((tuple(range(self.variables)), self.cardinality),)

    @property
    def variables(self) -> int:
        """How many there are, n."""
        return int(self.linear.size)

    def values(self, outcomes: NDArray[np.int64]) -> Floats:
        """Return f of each outcome, (B,)."""
        bits = ((outcomes[:, None] >> np.arange(self.variables)) & 1).astype(np.float64)
        return np.asarray(bits @ self.linear + 0.5 * np.einsum("bi,ij,bj->b", bits, self.quadratic, bits))

    def feasible(self, outcomes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which outcomes have the cardinality, or that of each sector, (B,)."""
        found = np.ones(outcomes.shape, dtype=np.bool_)
        for members, ones in self.conserved:
            mask = sum(1 << member for member in members)
            found &= np.bitwise_count(outcomes & mask) == ones
        return found

    def penalised(self) -> Qubo:
        """Return f - A (sum x - k)^2, for each sector where there are some, without a cardinality, up to a constant.

        A is the largest change of f that one bit can make, so that no infeasible selection is above its best feasible
        neighbour.
        """
        if not self.conserved:
            return self
        weight = float((np.abs(self.linear) + np.abs(self.quadratic).sum(axis=1)).max())
        linear, quadratic = self.linear.copy(), self.quadratic.copy()
        for members, ones in self.conserved:
            part = np.array(members)
            linear[part] += weight * (2.0 * ones - 1.0)
            quadratic[np.ix_(part, part)] -= 2.0 * weight * (1.0 - np.eye(len(part)))
        return Qubo(linear, quadratic)


def _check_sectors(problem: Qubo) -> None:
    members = sorted(member for part, _ in problem.sectors for member in part)
    if problem.cardinality is not None:
        raise InvalidRequest.at("sectors", "cannot be given beside a cardinality")
    if members != list(range(problem.variables)):
        raise InvalidRequest.at("sectors", f"must hold each of {problem.variables} variables once")
    if not all(1 <= ones <= len(part) for part, ones in problem.sectors):
        raise InvalidRequest.at("sectors", "must each have from 1 to all of their variables set")


def diverse_selection(relevance: ArrayLike, similarity: ArrayLike, k: int, diversity: float) -> Qubo:
    """Return the objective of `quantum_db.tunneling` as a QUBO: choose k by relevance and by how much they differ.

    Args:
        relevance: (K,).
        similarity: (K, K), symmetric; the diagonal is not read.

    Raises:
        InvalidRequest: with the path of what is wrong.
    """
    similar = np.asarray(similarity, dtype=np.float64)
    if similar.ndim != 2 or similar.shape[0] != similar.shape[1]:
        raise InvalidRequest.at("similarity", "must be a square matrix")
    quadratic = -0.5 * diversity * (similar + similar.T)
    np.fill_diagonal(quadratic, 0.0)
    return Qubo(np.asarray(relevance, dtype=np.float64), quadratic, k)


@dataclass(frozen=True, slots=True, eq=False)
class Ansatz:
    """A structure whose angles are affine in the 2p parameters (g_1..g_p, b_1..b_p).

    Attributes:
        base: (A,) radians.
        slope: (A, 2p).
    """

    template: Template
    base: Floats
    slope: Floats

    def bind(self, parameters: Floats) -> CircuitBatch:
        """Return the circuits of (K, 2p) parameters."""
        return CircuitBatch(self.template, self.base + parameters @ self.slope.T)


class _Builder:
    """Collects steps with, for each angle, its constant and what it is multiplied by which parameter."""

    def __init__(self, layers: int) -> None:
        self.steps: list[Step] = []
        self.base: list[float] = []
        self.slope: list[Floats] = []
        self._parameters = 2 * layers

    def turn(self, target: int, controls: tuple[int, ...], angle: float) -> None:
        """Add RY by a constant where all controls are 1."""
        self.steps.append(MultiplexedRY(target, controls, len(self.base)))
        self.base += [0.0] * ((1 << len(controls)) - 1) + [angle]
        self.slope += [np.zeros(self._parameters)] * (1 << len(controls))

    def rotate(
        self, name: Literal["rx", "rz", "rzz"], qubits: tuple[int, ...], factor: float, parameter: int | None = None
    ) -> None:
        """Add a rotation by ``factor`` times a parameter, or by ``factor`` itself."""
        self.steps.append(Rotation(name, qubits, len(self.base)))
        slope = np.zeros(self._parameters)
        if parameter is not None:
            slope[parameter] = factor
        self.base.append(factor if parameter is None else 0.0)
        self.slope.append(slope)

    def done(self, qubits: int) -> Ansatz:
        steps = tuple(self.steps)
        slope = np.array(self.slope).reshape(len(self.base), self._parameters)
        return Ansatz(Template(content_key(qubits, steps), qubits, steps), np.array(self.base), slope)


def qaoa_ansatz(problem: Qubo, layers: int, mixer: Mixer, scale: float) -> Ansatz:
    """Return the circuit of ``layers`` layers; ``scale`` is what the values of f are divided by.

    With x = (1 - z)/2, H = sum_i h_i z_i + sum_{i<j} J_ij z_i z_j, h_i = (l_i/2 + sum_j q_ij/4)/scale and J_ij =
    -q_ij/4/scale, up to a constant. Pairs without a coupling get no gate.
    """
    n = problem.variables
    cost = problem if mixer == "xy-ring" else problem.penalised()
    fields = (cost.linear / 2.0 + cost.quadratic.sum(axis=1) / 4.0) / scale
    couplings = -cost.quadratic / 4.0 / scale
    builder = _Builder(layers)
    if mixer == "xy-ring":
        for members, ones in problem.conserved:
            _dicke(builder, members, ones)
    else:
        builder.steps += [H(qubit) for qubit in range(n)]
    for layer in range(layers):
        for qubit in range(n):
            builder.rotate("rz", (qubit,), 2.0 * float(fields[qubit]), layer)
        for i, j in combinations(range(n), 2):
            if couplings[i, j] != 0.0:
                builder.rotate("rzz", (i, j), 2.0 * float(couplings[i, j]), layer)
        if mixer == "x":
            for qubit in range(n):
                builder.rotate("rx", (qubit,), 2.0, layers + layer)
        else:
            for pair in rings(problem):
                _exchange(builder, pair, layers + layer)
    return builder.done(n)


def _dicke(builder: _Builder, qubits: tuple[int, ...], k: int) -> None:
    """Prepare the even superposition of all outcomes with k ones (Baertschi and Eidenbenz, section 3).

    From |1> on the last k qubits, the split-and-cyclic-shift of sizes m = n, ..., 2 gives qubit m - 1 its share.
    """
    n = len(qubits)
    for qubit in qubits[n - k :]:
        builder.turn(qubit, (), math.pi)
    for m in range(n, 1, -1):
        for ones in range(1, min(k, m - 1) + 1):
            last, target = qubits[m - 1], qubits[m - 1 - ones]
            controls = (last,) if ones == 1 else (last, qubits[m - ones])
            builder.steps.append(CX(target, last))
            builder.turn(target, controls, 2.0 * math.acos(math.sqrt(ones / m)))
            builder.steps.append(CX(target, last))


def _exchange(builder: _Builder, pair: tuple[int, int], parameter: int) -> None:
    """Add exp(-i b (XX + YY)/2): XX is ZZ between Hadamards, YY is ZZ between quarter turns about X; they commute."""
    builder.steps += [H(qubit) for qubit in pair]
    builder.rotate("rzz", pair, 1.0, parameter)
    builder.steps += [H(qubit) for qubit in pair]
    for qubit in pair:
        builder.rotate("rx", (qubit,), math.pi / 2)
    builder.rotate("rzz", pair, 1.0, parameter)
    for qubit in pair:
        builder.rotate("rx", (qubit,), -math.pi / 2)


def rings(problem: Qubo) -> list[tuple[int, int]]:
    """Return the pairs of the mixer's rings: one ring for each part whose number of ones is fixed."""
    return [(part[a], part[b]) for part, _ in problem.conserved for a, b in ring(len(part))]


def ring(n: int) -> list[tuple[int, int]]:
    """Return the pairs of a ring: even ones, odd ones, so that neighbours in the list act at the same time."""
    pairs = [(i, i + 1) for start in (0, 1) for i in range(start, n - 1, 2)]
    return [*pairs, (n - 1, 0)] if n > 2 else pairs
