"""One circuit that scores all K candidates: prepare sum_i |i>|v_i> / sqrt(K), then undo the query.

The index register is the upper m qubits (2^m >= K), the data register the lower n. The index is spread evenly, each
candidate is prepared by multiplexed rotations that the index selects, and the query's amplitude tree is undone on the
data register alone. The last level of the candidates and the first step of the undo turn the same qubit, so the two
fuse. Then P(index = i, data = 0) = |<query|v_i>|^2 / K = F_i / K.

It needs the same shots in all as one circuit for each candidate, and more gates: it saves jobs, tasks and their
minimum prices, not gate-shots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.encoding import Matrix, SpanEncoding, tree_angles
from quantum_db.circuits.statistics import z_value
from quantum_db.circuits.template import CircuitBatch, H, MultiplexedRY, Step, Template, content_key
from quantum_db.errors import InvalidCircuit

Estimator = Literal["conditional", "joint"]


def index_qubits_for(rows: int) -> int:
    """Return m, the qubits of an index register for ``rows`` >= 1 candidates."""
    return (rows - 1).bit_length()


def multiplexed_template(rows: int, data_qubits: int) -> Template:
    """Return the structure of the circuit for ``rows`` >= 1 candidates on ``data_qubits`` >= 1 qubits.

    A number of candidates that is a power of two spreads the index by Hadamard gates, any other by a tree of its own.
    """
    index_qubits = index_qubits_for(rows)
    total = index_qubits + data_qubits
    steps: list[Step] = []
    if rows == 1 << index_qubits:
        steps += [H(qubit) for qubit in range(data_qubits, total)]
        levels = range(index_qubits, total)
    else:
        levels = range(total)
    first_angle = 0
    for target in [total - 1 - level for level in levels]:
        steps.append(MultiplexedRY(target, tuple(range(target + 1, total)), first_angle))
        first_angle += 1 << (total - 1 - target)
    for target in range(1, data_qubits):  # undo the query from its second last level up
        steps.append(MultiplexedRY(target, tuple(range(target + 1, data_qubits)), first_angle))
        first_angle += 1 << (data_qubits - 1 - target)
    return Template(content_key(total, tuple(steps)), total, tuple(steps))


def multiplexed_cx(rows: int, data_qubits: int) -> int:
    """Return the number of CX of ``multiplexed_template``.

    Level l of a tree costs 2^l CX (none for l = 0). With m index and n data qubits the candidates' levels m to m+n-1
    cost 2^(m+n) - 2^m, the query's undo 2^(n-1) - 2, and the tree of the index, where K is not 2^m, 2^m - 2.
    """
    index_qubits = index_qubits_for(rows)
    prepare = (1 << (index_qubits + data_qubits)) - max(2, 1 << index_qubits)
    spread = 0 if rows == 1 << index_qubits else (1 << index_qubits) - 2
    return prepare + spread + max(0, (1 << (data_qubits - 1)) - 2)


def multiplexed_circuit(encoding: SpanEncoding, template: Template) -> CircuitBatch:
    """Bind the one circuit. ``template`` is ``multiplexed_template(K, encoding.num_qubits)``.

    Raises InvalidCircuit when the template is for another number of candidates or qubits.
    """
    rows, dimension = encoding.candidates.shape
    index_qubits = index_qubits_for(rows)
    state = np.zeros((1 << index_qubits, dimension))
    state[:rows] = encoding.candidates / np.sqrt(rows)
    levels = tree_angles(state.reshape(1, -1))
    if rows == 1 << index_qubits:  # the Hadamard gates stand for the first levels
        levels = levels[index_qubits:]
    query = tree_angles(encoding.query[None, :])
    levels[-1] = fuse_undo(levels[-1], query[-1])
    return CircuitBatch(template, np.concatenate([*levels, *undo_angles(query)], axis=1))


def fuse_undo(level: Matrix, query_level: Matrix) -> Matrix:
    """Return the angles of a last preparing level (B, 2^m * 2^(n-1)) fused with the undo of the query's (B', 2^(n-1)).

    The upper m controls select nothing in the undo: its angles repeat for each of their patterns.
    """
    repeats = level.shape[1] // query_level.shape[1]
    return np.asarray(level - np.tile(query_level, (1, repeats)), dtype=np.float64)


def undo_angles(levels: list[Matrix]) -> list[Matrix]:
    """Return the angles that undo a tree after its last level, which was fused, has been undone."""
    return [-level for level in reversed(levels[:-1])]


@dataclass(frozen=True, slots=True, eq=False)
class FidelityEstimates:
    """Fidelities from shots, with what they are made of.

    Attributes:
        values: (K,) float64.
        low, high: (K,) ends of the intervals.
        successes, trials: (K,) int64, the shots that count for a candidate and those of them that succeeded.
    """

    values: Matrix
    low: Matrix
    high: Matrix
    successes: NDArray[np.int64]
    trials: NDArray[np.int64]


def multiplexed_fidelities(
    counts: Mapping[int, int],
    rows: int,
    data_qubits: int,
    confidence: float = 0.95,
    estimator: Estimator = "conditional",
) -> FidelityEstimates:
    """Return the candidates' fidelities from the counts of the one circuit.

    ``joint``: K n_i0 / S, from the share of outcomes (index i, data 0) in all S shots; standard error
    sqrt(F (K - F) / S). ``conditional``: n_i0 / n_i, from those n_i shots alone whose index is i; standard error
    sqrt(F (1 - F) / n_i) with n_i about S / K. It is never the worse one, because it does not pay for the chance in
    n_i, and far better for F near 1. Intervals are Wilson's.

    Raises:
        InvalidCircuit: an outcome names an index that was not prepared, which an ideal circuit never gives, under
            ``joint``; ``conditional`` drops such shots, because noise makes them and they belong to no candidate.
    """
    table = register_table(counts, index_qubits_for(rows), data_qubits)
    stray = int(table[rows:].sum())
    if estimator == "joint":
        if stray:
            raise InvalidCircuit(f"{stray} shots have an index that was not prepared; estimate conditionally")
        trials = np.full(rows, table.sum())
        values, low, high = shares(table[:rows, 0], trials, confidence)
        return FidelityEstimates(values * rows, low * rows, np.minimum(high * rows, 1.0), table[:rows, 0], trials)
    trials = table[:rows].sum(axis=1)
    values, low, high = shares(table[:rows, 0], trials, confidence)
    return FidelityEstimates(values, low, high, table[:rows, 0], trials)


def register_table(counts: Mapping[int, int], upper_qubits: int, data_qubits: int) -> NDArray[np.int64]:
    """Return the counts by the upper register's outcome and whether the data register is zero: (2^m, 2) int64.

    Column 0 counts data = 0, column 1 all other data. Raises InvalidCircuit for an outcome of more qubits.
    """
    table = np.zeros((1 << upper_qubits, 2), dtype=np.int64)
    for outcome, count in counts.items():
        upper, data = outcome >> data_qubits, outcome & ((1 << data_qubits) - 1)
        if not 0 <= upper < len(table):
            raise InvalidCircuit(f"outcome {outcome} does not fit {upper_qubits} + {data_qubits} qubits")
        table[upper, int(data != 0)] += count
    return table


def shares(successes: NDArray[np.int64], trials: NDArray[np.int64], confidence: float) -> tuple[Matrix, Matrix, Matrix]:
    """Return the share of successes with the ends of Wilson's interval, each with trials of its own.

    Where there were no trials nothing is known: the share is nan and the interval [0, 1].
    """
    z = z_value(confidence)
    with np.errstate(invalid="ignore"):
        value = np.asarray(successes / trials, dtype=np.float64)  # 0 / 0 is nan
    spread = trials + z * z
    centre = (successes + z * z / 2.0) / spread
    half = z * np.sqrt(successes * (trials - successes) / np.maximum(trials, 1) + z * z / 4.0) / spread
    return value, np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def joint_standard_error(fidelity: Matrix, rows: int, shots: int) -> Matrix:
    """Return sqrt(F (K - F) / S): the binomial deviation of K n_i0 / S with success probability F / K."""
    return np.asarray(np.sqrt(fidelity * (rows - fidelity) / shots), dtype=np.float64)
