"""Noise in the emulator: which model a job runs under, and what its circuits then give.

IonQ's noisy simulation applies a depolarising channel after each one- and two-qubit gate, and samples as many shots as
were asked for (https://docs.ionq.com/guides/simulation-with-noise-models, read 2026-11). The same is done here, exactly
up to the drawing of shots, with the readout errors that IonQ's page does not mention.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.noise import ARIA_1, FORTE_1, NoiseModel, Operation, evolve
from quantum_db.ionq.gate_simulator import WITH_ANGLE, Circuit, Gate, Histogram, by_structure, unitaries

MAX_NOISY_QUBITS: Final = 10
"""A circuit then has 4^10 Pauli expectations, 8 MiB."""

# Forte Enterprise has the performance of Forte (https://learn.microsoft.com/azure/quantum/provider-ionq, 2025-09).
QPU_NOISE: Final[Mapping[str, NoiseModel]] = MappingProxyType(
    {"qpu.aria-1": ARIA_1, "qpu.forte-1": FORTE_1, "qpu.forte-enterprise-1": FORTE_1}
)

_CHUNK_NUMBERS: Final = 1 << 17


def simulate_noisy(circuits: Sequence[Circuit], noise: NoiseModel) -> list[Histogram]:
    """Return outcome -> probability of reading it, for each circuit; the probabilities sum to 1 but for rounding.

    Raises InvalidCircuit for a gate on more than two qubits.
    """
    found: dict[int, Histogram] = {}
    for qubits, gates, members in by_structure(circuits):
        size = max(1, _CHUNK_NUMBERS >> (2 * qubits))
        for start in range(0, len(members), size):
            chunk = members[start : start + size]
            angles = np.array([circuits[index].angles for index in chunk], dtype=np.float64)
            read = evolve(qubits, len(chunk), _operations(gates, angles), noise).clip(0.0)
            for index, row in zip(chunk, read, strict=True):
                found[index] = dict(enumerate(row.tolist()))
    return [found[index] for index in range(len(circuits))]


def _operations(gates: Sequence[Gate], angles: NDArray[np.float64]) -> Iterator[Operation]:
    column = 0
    for gate in gates:
        own = None
        if gate.name in WITH_ANGLE:
            own = angles[:, column]
            column += 1
        yield (*gate.targets, *gate.controls), unitaries(gate, own)
