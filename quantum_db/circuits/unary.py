"""The unary loader: a vector of d numbers as amplitudes of the d basis states of Hamming weight one, and its overlaps.

It takes d qubits instead of log2 d, and in return a depth that grows with log d: d - 1 reconfigurable beam splitters
(RBS) in a binary tree. RBS(theta) on qubits (a, b) turns the plane of |a = 1, b = 0> and |a = 0, b = 1>,

    |10> -> cos(theta) |10> + sin(theta) |01>,    |01> -> cos(theta) |01> - sin(theta) |10>,

and leaves |00> and |11>. Every gate keeps the Hamming weight, so a measured outcome of another weight tells of an error
and can be dropped. S. Johri et al., npj Quantum Information 7 (2021) 122, figures 1b and 1c, ran this on IonQ hardware.

The overlap circuit loads the candidate and unloads the query. Beam splitters on pairs of two leaves are the last of
the one and the first of the other, so these fuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from quantum_db.circuits.encoding import Matrix
from quantum_db.circuits.multiplexed import FidelityEstimates, shares
from quantum_db.circuits.template import CX, CircuitBatch, H, MultiplexedRY, Step, Template, content_key
from quantum_db.errors import InvalidCircuit

SUCCESS = 1
"""The outcome of an overlap circuit that counts: qubit 0, where loading starts, is one again and all others zero."""


@dataclass(frozen=True, slots=True)
class _Splitter:
    """A beam splitter that divides the numbers first..last-1 at ``middle``: it acts on qubits (first, middle)."""

    first: int
    middle: int
    last: int

    @property
    def is_leaf_pair(self) -> bool:
        """Whether no other splitter comes after it on its qubits."""
        return self.last - self.first == 2


def unary_template(dimension: int) -> Template:
    """Return the structure of the loader of ``dimension`` >= 2 numbers: 2 (d - 1) CX in depth 2 ceil(log2 d)."""
    return _template(dimension, _tree(dimension))


def unary_overlap_template(dimension: int) -> Template:
    """Return the structure of the overlap circuit of ``dimension`` >= 2 numbers; see ``unary_overlap_cx``."""
    return _template(dimension, _overlap_order(dimension))


def unary_overlap_cx(dimension: int) -> int:
    """Return the number of CX: two for each of 2 (d - 1) beam splitters, less the fused pairs of leaves.

    For d a power of two these are d/2: 3 d - 4 CX, in 4 log2(d) - 2 layers.
    """
    return 2 * len(_overlap_order(dimension))


def unary_circuits(vectors: Matrix, template: Template) -> CircuitBatch:
    """Bind one loader for each of (K, d) unit vectors; amplitude i is that of the outcome 2^i."""
    dimension = vectors.shape[1]
    return CircuitBatch(template, _columns(_splitter_angles(vectors), _tree(dimension)))


def unary_overlap_circuits(query: Matrix, candidates: Matrix, template: Template) -> CircuitBatch:
    """Bind one overlap circuit for each candidate: P(outcome ``SUCCESS``) = |<query|candidate>|^2.

    Args:
        query: (d,) unit vector.
        candidates: (K, d) unit vectors.
        template: ``unary_overlap_template(d)``.
    """
    tree = _tree(candidates.shape[1])
    load = _splitter_angles(candidates)
    unload = np.broadcast_to(-_splitter_angles(query[None, :]), load.shape)
    fused = np.array([splitter.is_leaf_pair for splitter in tree])
    angles = np.concatenate([load + np.where(fused, unload, 0.0), unload[:, ~fused][:, ::-1]], axis=1)
    return CircuitBatch(template, _columns(angles, _overlap_order(candidates.shape[1])))


@dataclass(frozen=True, slots=True, eq=False)
class UnaryEstimates:
    """What the counts of K overlap circuits tell.

    Attributes:
        fidelities: from the shots of Hamming weight one alone, which are their ``trials``.
        accepted: (K,) share of the shots that have Hamming weight one; 1 without noise.
    """

    fidelities: FidelityEstimates
    accepted: Matrix


def unary_fidelities(counts: Sequence[Mapping[int, int]], confidence: float = 0.95) -> UnaryEstimates:
    """Return the share of ``SUCCESS`` among the outcomes of Hamming weight one, with Wilson's interval.

    The post-selection finds every error that changes the Hamming weight, and misses those that keep it: an estimate
    from a noisy machine is better for it, not unbiased.

    Raises:
        InvalidCircuit: a circuit has no shots.
    """
    shots = np.array([sum(row.values()) for row in counts], dtype=np.int64)
    if not shots.all():
        raise InvalidCircuit("a circuit without shots has no estimate")
    trials = np.array([sum(n for outcome, n in row.items() if outcome.bit_count() == 1) for row in counts], np.int64)
    successes = np.array([row.get(SUCCESS, 0) for row in counts], dtype=np.int64)
    values, low, high = shares(successes, trials, confidence)
    return UnaryEstimates(FidelityEstimates(values, low, high, successes, trials), trials / shots)


@lru_cache(maxsize=64)
def _tree(dimension: int) -> tuple[_Splitter, ...]:
    """Return the d - 1 beam splitters, level by level; those of one level act on different qubits."""
    if dimension < 2:
        raise InvalidCircuit(f"a unary loader needs at least two numbers, not {dimension}")
    found: list[_Splitter] = []
    level = [(0, dimension)]
    while level:
        splitters = [_Splitter(first, (first + last + 1) // 2, last) for first, last in level]
        found += splitters
        halves = [half for s in splitters for half in ((s.first, s.middle), (s.middle, s.last))]
        level = [(first, last) for first, last in halves if last - first > 1]
    return tuple(found)


def _overlap_order(dimension: int) -> tuple[_Splitter, ...]:
    tree = _tree(dimension)
    return tree + tuple(splitter for splitter in reversed(tree) if not splitter.is_leaf_pair)


def _splitter_angles(vectors: Matrix) -> Matrix:
    """Return theta of each beam splitter of the tree, (K, d - 1); leaves carry their signs.

    A part of the vector has as its amplitude the number itself where it is one, else its norm.
    """
    columns = []
    for splitter in _tree(vectors.shape[1]):
        left, right = (
            vectors[:, first] if last - first == 1 else np.linalg.norm(vectors[:, first:last], axis=1)
            for first, last in ((splitter.first, splitter.middle), (splitter.middle, splitter.last))
        )
        columns.append(np.arctan2(right, left))
    return np.stack(columns, axis=1)


def _template(dimension: int, order: tuple[_Splitter, ...]) -> Template:
    """Return X on qubit 0 (as RY by pi, to stay real), then the beam splitters."""
    steps: list[Step] = [MultiplexedRY(0, (), 0)]
    first_angle = 1
    for splitter in order:
        steps += _beam_splitter(splitter.first, splitter.middle, first_angle)
        first_angle += 2
    return Template(content_key(dimension, tuple(steps)), dimension, tuple(steps))


def _beam_splitter(a: int, b: int, first_angle: int) -> tuple[Step, ...]:
    """Return RBS(theta) = exp(-i theta (X_a Y_b - Y_a X_b) / 2) with two CX; theta goes to both RY."""
    turn_a, turn_b = MultiplexedRY(a, (), first_angle), MultiplexedRY(b, (), first_angle + 1)
    return H(a), CX(a, b), turn_a, turn_b, CX(a, b), H(a)


def _columns(angles: Matrix, order: tuple[_Splitter, ...]) -> Matrix:
    """Return the step angles: pi for X, then each beam splitter's angle twice."""
    assert angles.shape[1] == len(order)
    return np.concatenate([np.full((angles.shape[0], 1), np.pi), np.repeat(angles, 2, axis=1)], axis=1)
