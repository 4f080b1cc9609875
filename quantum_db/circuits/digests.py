"""Digests of circuits: equal for equal structure and angles, in every process."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from quantum_db.circuits.template import CircuitBatch

DIGEST_BYTES: Final = 16


def circuit_digests(batch: CircuitBatch) -> list[str]:
    """Return the digest of each circuit, 32 hex digits. -0.0 and 0.0 are the same angle."""
    rows = np.ascontiguousarray(batch.angles + 0.0, dtype="<f8")
    key = batch.template.key.encode()
    return [hashlib.blake2b(row.tobytes(), key=key, digest_size=DIGEST_BYTES).hexdigest() for row in rows]
