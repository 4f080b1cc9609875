"""The ZZ feature map's kernel, an option beside amplitude encoding: d features on d qubits.

V. Havlicek et al., Nature 567 (2019) 209: each repetition is H on every qubit, then a diagonal gate

    D(x) = exp(-i sum_j x_j Z_j - i sum_jk (pi - x_j) (pi - x_k) Z_j Z_k)

up to a phase, with the signs and angles of qiskit's ``zz_feature_map``. The kernel is
k(x, z) = |<0| U(z)^dagger U(x) |0>|^2, the share of all-zero outcomes of the compute-uncompute circuit. The last
diagonal gate of the one meets the first of the other, so the two fuse.

Features are angles, in radians, and are not normalised. The kernel is no function of the cosine: nothing says that it
ranks like one, and no gain over classical kernels is claimed.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from quantum_db.circuits.encoding import Matrix
from quantum_db.circuits.template import CircuitBatch, H, Rotation, Step, Template, content_key
from quantum_db.errors import InvalidCircuit

Entanglement = Literal["full", "linear"]


def zz_pairs(features: int, entanglement: Entanglement) -> tuple[tuple[int, int], ...]:
    """Return the pairs of qubits that RZZ acts on: all, or neighbours."""
    if entanglement == "linear":
        return tuple((qubit, qubit + 1) for qubit in range(features - 1))
    return tuple((lower, upper) for lower in range(features) for upper in range(lower + 1, features))


def zz_feature_template(features: int, repetitions: int = 2, entanglement: Entanglement = "full") -> Template:
    """Return the structure of the feature map U itself, for ``features`` >= 1 and ``repetitions`` >= 1."""
    return _template(features, repetitions, zz_pairs(features, entanglement), last_layer_of_hadamards=False)


def zz_kernel_template(features: int, repetitions: int = 2, entanglement: Entanglement = "full") -> Template:
    """Return the structure of the kernel circuit: (2 r - 1) RZZ for each pair of qubits."""
    pairs = zz_pairs(features, entanglement)
    return _template(features, 2 * repetitions - 1, pairs, last_layer_of_hadamards=True)


def zz_kernel_gates(features: int, repetitions: int = 2, entanglement: Entanglement = "full") -> int:
    """Return the number of RZZ of ``zz_kernel_template``: each is one two-qubit gate on ion traps, else two CX."""
    return (2 * repetitions - 1) * len(zz_pairs(features, entanglement))


def zz_feature_circuits(
    vectors: Matrix, template: Template, repetitions: int = 2, entanglement: Entanglement = "full"
) -> CircuitBatch:
    """Bind U(x) for each of (K, d) feature vectors."""
    return CircuitBatch(template, np.tile(_diagonal_angles(vectors, entanglement), (1, repetitions)))


def zz_kernel_circuits(
    query: Matrix,
    candidates: Matrix,
    template: Template,
    repetitions: int = 2,
    entanglement: Entanglement = "full",
) -> CircuitBatch:
    """Bind one kernel circuit for each candidate: P(all zeros) = k(candidate, query).

    Args:
        query: (d,) features in radians.
        candidates: (K, d) features in radians.
        template: ``zz_kernel_template(d, repetitions, entanglement)``.
        repetitions: r >= 1.
        entanglement: which pairs of features meet.
    """
    compute = _diagonal_angles(candidates, entanglement)
    undo = np.broadcast_to(-_diagonal_angles(query[None, :], entanglement), compute.shape)
    layers = [compute] * (repetitions - 1) + [compute + undo] + [undo] * (repetitions - 1)
    return CircuitBatch(template, np.concatenate(layers, axis=1))


def _template(
    features: int, layers: int, pairs: tuple[tuple[int, int], ...], last_layer_of_hadamards: bool
) -> Template:
    if features < 1 or layers < 1:
        raise InvalidCircuit("a feature map needs at least one feature and one repetition")
    hadamards: list[Step] = [H(qubit) for qubit in range(features)]
    steps: list[Step] = []
    first_angle = 0
    for _ in range(layers):
        steps += hadamards
        steps += [Rotation("rz", (qubit,), first_angle + qubit) for qubit in range(features)]
        first_angle += features
        steps += [Rotation("rzz", pair, first_angle + place) for place, pair in enumerate(pairs)]
        first_angle += len(pairs)
    if last_layer_of_hadamards:
        steps += hadamards
    return Template(content_key(features, tuple(steps)), features, tuple(steps))


def _diagonal_angles(vectors: Matrix, entanglement: Entanglement) -> Matrix:
    """Return the RZ angles 2 x_j, then the RZZ angles 2 (pi - x_j) (pi - x_k), (K, d + pairs)."""
    pairs = zz_pairs(vectors.shape[1], entanglement)
    products = [2.0 * (np.pi - vectors[:, lower]) * (np.pi - vectors[:, upper]) for lower, upper in pairs]
    return np.concatenate([2.0 * vectors, *(column[:, None] for column in products)], axis=1)
