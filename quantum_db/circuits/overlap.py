"""The merged compute-uncompute circuit: the share of all-zero outcomes estimates |<query|candidate>|^2.

The candidate is prepared by its amplitude tree and the query's tree is undone. The last level of the one meets the
first step of the other on the same qubit with the same controls, so the two fuse: 1.5 * 2^n - 4 CX instead of
2 * (2^n - 2).
"""

from __future__ import annotations

import numpy as np

from quantum_db.circuits.encoding import Matrix, SpanEncoding, tree_angles
from quantum_db.circuits.template import CircuitBatch, MultiplexedRY, Template, content_key


def overlap_template(num_qubits: int) -> Template:
    """Return the structure of the merged overlap circuit on ``num_qubits`` >= 1 qubits."""
    levels = [*range(num_qubits), *range(num_qubits - 2, -1, -1)]
    steps, first_angle = [], 0
    for level in levels:
        target = num_qubits - 1 - level
        steps.append(MultiplexedRY(target, tuple(range(target + 1, num_qubits)), first_angle))
        first_angle += 1 << level
    return Template(content_key(num_qubits, tuple(steps)), num_qubits, tuple(steps))


def overlap_circuits(encoding: SpanEncoding, template: Template) -> CircuitBatch:
    """Bind one overlap circuit for each candidate. ``template`` is ``overlap_template(encoding.num_qubits)``."""
    candidate = tree_angles(encoding.candidates)
    query = tree_angles(encoding.query[None, :])
    rows = encoding.candidates.shape[0]
    undo: list[Matrix] = [np.repeat(-level, rows, axis=0) for level in reversed(query[:-1])]
    return CircuitBatch(template, np.concatenate([*candidate[:-1], candidate[-1] - query[-1], *undo], axis=1))
