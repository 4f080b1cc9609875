"""From vectors to amplitudes: lift, span encoding, and the angles of amplitude trees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SpanEncoding:
    """A query and K candidates as real amplitudes on ``num_qubits`` qubits.

    Attributes:
        query: (2^n,) unit vector.
        candidates: (K, 2^n) unit vectors.
        worst_error: the largest error of an inner product of query and candidate; 0.0 when nothing was cut.
    """

    query: Matrix
    candidates: Matrix
    num_qubits: int
    worst_error: float


def lift(vectors: NDArray[np.floating]) -> Matrix:
    """Return (N, d + 1) unit vectors (1, v) / sqrt(2) for (N, d) unit vectors.

    A fidelity loses the sign of a cosine; of lifted vectors it is ((1 + cos) / 2)^2, monotone in the cosine.
    """
    lifted = np.empty((vectors.shape[0], vectors.shape[1] + 1))
    lifted[:, 0] = 1.0
    lifted[:, 1:] = vectors
    lifted /= np.sqrt(2.0)
    return lifted


def fidelity_of_cosine(cosine: NDArray[np.floating]) -> Matrix:
    """Return ((1 + cos) / 2)^2, the fidelity of two lifted vectors."""
    return ((1.0 + np.asarray(cosine, dtype=np.float64)) / 2.0) ** 2


def cosine_of_fidelity(fidelity: NDArray[np.floating]) -> Matrix:
    """Return 2 sqrt(F) - 1, the cosine that a fidelity of lifted vectors stands for."""
    return np.asarray(2.0 * np.sqrt(np.clip(fidelity, 0.0, 1.0)) - 1.0, dtype=np.float64)


def qubits_for(rows: int, dimension: int) -> int:
    """Return the qubits that hold ``rows`` candidates and a query of ``dimension`` (lifted) without loss."""
    return max(1, (min(rows + 1, dimension) - 1).bit_length())


def encode_span(query: Matrix, candidates: Matrix, max_qubits: int) -> SpanEncoding:
    """Rotate unit vectors into their own span, which has at most K + 1 dimensions; inner products are kept.

    The triangular factor of a QR factorisation holds the coordinates. Where the span needs more than ``max_qubits``,
    it is cut to the leading singular directions, and the worst error made is reported.

    Args:
        query: (d,).
        candidates: (K, d), K >= 1.
    """
    rows, dimension = candidates.shape
    num_qubits = qubits_for(rows, dimension)
    columns = np.concatenate([candidates, query[None, :]]).T
    if num_qubits <= max_qubits:
        coordinates = np.asarray(np.linalg.qr(columns, mode="r")) if rows + 1 < dimension else columns
    else:
        num_qubits = max_qubits
        _, singular_values, directions = np.linalg.svd(columns, full_matrices=False)
        kept = 1 << num_qubits
        coordinates = singular_values[:kept, None] * directions[:kept]
    amplitudes = np.zeros((rows + 1, 1 << num_qubits))
    amplitudes[:, : coordinates.shape[0]] = coordinates.T
    norms = np.linalg.norm(amplitudes, axis=1, keepdims=True)
    amplitudes[:, 0] += norms[:, 0] == 0.0  # a vector wholly outside the cut span: any state is as good
    amplitudes /= np.where(norms == 0.0, 1.0, norms)
    error = np.abs(amplitudes[:-1] @ amplitudes[-1] - candidates @ query).max()
    lossless = qubits_for(rows, dimension) <= max_qubits
    return SpanEncoding(amplitudes[-1], amplitudes[:-1], num_qubits, 0.0 if lossless else float(error))


def tree_angles(amplitudes: Matrix) -> list[Matrix]:
    """Return the RY angles that prepare each row from |0...0>, level by level.

    Level l has shape (K, 2^l) and turns qubit n-1-l for each pattern of the l qubits above it. The last level carries
    the signs (Mottonen et al., quant-ph/0407010, for real amplitudes).

    Args:
        amplitudes: (K, 2^n) unit vectors, n >= 1.
    """
    pairs = amplitudes.reshape(amplitudes.shape[0], -1, 2)
    levels = [2.0 * np.arctan2(pairs[:, :, 1], pairs[:, :, 0])]
    norms = np.sqrt((pairs**2).sum(axis=2))
    while norms.shape[1] > 1:
        pairs = norms.reshape(norms.shape[0], -1, 2)
        levels.append(2.0 * np.arctan2(pairs[:, :, 1], pairs[:, :, 0]))
        norms = np.sqrt((pairs**2).sum(axis=2))
    return levels[::-1]
