"""Noise models at published error rates, the exact simulation of noisy circuits, and a backend made of it.

A mixed state is held by its Pauli expectations Tr(P rho), one real number for each of the 4^n Pauli strings. There a
gate is a small real matrix, and depolarising noise after it scales what is not the identity on its qubits, so that
both are one step. It is the density matrix in another basis: exact, and half its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quantum_db.backend_ports import BackendLimits, BackendResult
from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import ROTATION_GATES, CircuitBatch
from quantum_db.errors import DeadlineExceeded, InvalidCircuit, InvalidSettings
from quantum_db.ports import Clock

MAX_QUBITS: Final = 8
"""The backend's default. One circuit then has 65,536 Pauli expectations (512 KiB)."""

_CHUNK_NUMBERS: Final = 1 << 17  # of float64; the state and its copy stay in a core's second-level cache
_ZERO: Final = 1e-13

Array = NDArray[np.float64]
Operation = tuple[tuple[int, ...], NDArray[Any]]
"""Qubits, and the unitaries on them: (R, 2^m, 2^m) with R = 1 or one for each circuit; the first qubit is the lowest
bit of an index."""


@dataclass(frozen=True, slots=True)
class NoiseModel:
    """Depolarising noise after each gate, and independent readout errors.

    A depolarising parameter r replaces the state of the gate's m qubits by the maximally mixed one with probability r.
    The average fidelity of the gate is then 1 - r (1 - 2^-m) (Nielsen, quant-ph/0205035).

    Attributes:
        one_qubit, two_qubit: depolarising parameters of gates on one and on two qubits.
        one_given_zero, zero_given_one: probabilities to read the wrong value of one qubit.
        source: where the figures come from, with the date.

    Raises InvalidSettings if a probability is outside of [0, 1].
    """

    name: str
    source: str
    one_qubit: float = 0.0
    two_qubit: float = 0.0
    one_given_zero: float = 0.0
    zero_given_one: float = 0.0

    def __post_init__(self) -> None:
        for name in ("one_qubit", "two_qubit", "one_given_zero", "zero_given_one"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidSettings(f"noise model {self.name}: {name} must be from 0 to 1")

    @property
    def one_qubit_fidelity(self) -> float:
        """Average fidelity of a one-qubit gate."""
        return 1.0 - self.one_qubit / 2.0

    @property
    def two_qubit_fidelity(self) -> float:
        """Average fidelity of a two-qubit gate."""
        return 1.0 - 0.75 * self.two_qubit

    @property
    def spam_fidelity(self) -> float:
        """Probability to read one qubit right, over both values."""
        return 1.0 - (self.one_given_zero + self.zero_given_one) / 2.0

    @property
    def is_ideal(self) -> bool:
        """Whether there is no noise at all."""
        return not (self.one_qubit or self.two_qubit or self.one_given_zero or self.zero_given_one)

    def depolarizing(self, qubits: int) -> float:
        """Return the parameter of a gate on one or two qubits. Raises InvalidCircuit for more."""
        if qubits > 2:
            raise InvalidCircuit(f"noise is modelled for gates on one and two qubits; one acts on {qubits}")
        return self.one_qubit if qubits == 1 else self.two_qubit

    def survival(self, one_qubit_gates: int, two_qubit_gates: int) -> float:
        """Return f1^N1 f2^N2, the product of the gates' average fidelities: the usual estimate of a circuit's."""
        return float(self.one_qubit_fidelity**one_qubit_gates * self.two_qubit_fidelity**two_qubit_gates)

    def confusion(self) -> Array:
        """Return (2, 2): the probability to read the row's value where the column's is right."""
        p, q = self.one_given_zero, self.zero_given_one
        return np.array([[1.0 - p, q], [p, 1.0 - q]])


_IONQ_MODEL: Final = "https://docs.ionq.com/guides/simulation-with-noise-models, read 2026-11"

IDEAL: Final = NoiseModel("ideal", "without noise")
ARIA_1: Final = NoiseModel(
    "aria-1",
    f"gates: {_IONQ_MODEL}; readout: https://learn.microsoft.com/azure/quantum/provider-ionq, page of 2025-09, "
    "SPAM 99.61%, taken as equal for both values",
    one_qubit=0.0005,
    two_qubit=0.0133,
    one_given_zero=0.0039,
    zero_given_one=0.0039,
)
# No page of IonQ's that gives Forte's SPAM was found. The figure is from a characterization of IonQ's API v0.4 with
# Forte's gate fidelities (99.98%, 99.52%), quoted in the source of a public client without a date.
FORTE_1: Final = NoiseModel(
    "forte-1",
    f"gates: {_IONQ_MODEL}; readout: SPAM 99.42% in a characterization of IonQ's API v0.4 quoted by a public client, "
    "taken as equal for both values",
    one_qubit=0.0002666666666666667,
    two_qubit=0.004949333333333333,
    one_given_zero=0.0058,
    zero_given_one=0.0058,
)

NOISE_MODELS: Final[Mapping[str, NoiseModel]] = MappingProxyType(
    {model.name: model for model in (IDEAL, ARIA_1, FORTE_1)}
)


def noise_model(name: str) -> NoiseModel:
    """Return the noise model of this name. Raises InvalidSettings for an unknown one."""
    try:
        return NOISE_MODELS[name]
    except KeyError:
        raise InvalidSettings(f"there is no noise model {name!r}; known are {', '.join(NOISE_MODELS)}") from None


def noisy_probabilities(batch: CircuitBatch, noise: NoiseModel) -> Array:
    """Return what is read, (K, 2^n): exact probabilities of all outcomes under the noise.

    The gates are those of ``Template.structure``, each followed by its noise. Rows sum to 1 and elements are not
    negative but for rounding (1e-14). Time grows with gates * 4^n.
    """
    return np.concatenate(list(_chunks(batch, noise)))


def evolve(num_qubits: int, rows: int, operations: Iterable[Operation], noise: NoiseModel) -> Array:
    """Return what is read after the operations, (rows, 2^n), starting from |0...0>.

    Raises InvalidCircuit for an operation on more than two qubits.
    """
    state = np.zeros((rows, 4**num_qubits))
    state[:, _z_strings(num_qubits)] = 1.0
    other = np.empty_like(state)
    for qubits, unitaries in operations:
        transfer = _transfer(unitaries)
        transfer[:, 1:] *= 1.0 - noise.depolarizing(len(qubits))
        _apply(state, other, qubits, transfer)
        state, other = other, state
    found = state[:, _z_strings(num_qubits)]
    to_probabilities = noise.confusion() @ np.array([[0.5, 0.5], [0.5, -0.5]])
    return apply_to_each_qubit(found, np.broadcast_to(to_probabilities, (num_qubits, 2, 2)))


def apply_to_each_qubit(values: Array, matrices: Array) -> Array:
    """Return (M_n-1 x ... x M_0) applied to each row of (K, 2^n), for the qubits' matrices (n, 2, 2)."""
    for qubit, matrix in enumerate(matrices):
        pairs = values.reshape(values.shape[0], -1, 2, 1 << qubit)
        values = np.einsum("ij,kajb->kaib", matrix, pairs).reshape(values.shape)
    return values


def _chunks(batch: CircuitBatch, noise: NoiseModel) -> Iterator[Array]:
    """Yield the probabilities of a few circuits at a time."""
    template = batch.template
    angles = template.gate_angles(batch.angles)
    size = max(1, _CHUNK_NUMBERS >> (2 * template.num_qubits))
    for start in range(0, len(batch), size):
        part = angles[start : start + size]
        yield evolve(template.num_qubits, part.shape[0], _operations(template.structure, part), noise)


def _operations(structure: Iterable[tuple[str, tuple[int, ...]]], angles: Array) -> Iterator[Operation]:
    column = 0
    for name, qubits in structure:
        if name in ROTATION_GATES:
            yield qubits, _rotations(name, angles[:, column])
            column += 1
        else:
            yield qubits, _FIXED[name]


_PAULI: Final = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
_GENERATORS: Final = {
    "rx": _PAULI[1],
    "ry": _PAULI[2],
    "rz": _PAULI[3],
    "rzz": np.kron(_PAULI[3], _PAULI[3]),
}
_FIXED: Final = {
    "h": (_PAULI[1:2] + _PAULI[3:4]) / np.sqrt(2.0),
    "cx": np.array([[[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]], dtype=np.complex128),
}


def _rotations(name: str, angles: Array) -> NDArray[np.complex128]:
    """Return exp(-i angle/2 P), (K, d, d)."""
    generator = _GENERATORS[name]
    half = angles[:, None, None] / 2.0
    return np.asarray(np.cos(half) * np.eye(generator.shape[0]) - 1j * np.sin(half) * generator)


@lru_cache(maxsize=2)
def _pauli_strings(qubits: int) -> NDArray[np.complex128]:
    """Return (4^m, 2^m, 2^m); the first qubit is the lowest digit of the index, in the order I, X, Y, Z."""
    strings = _PAULI
    for _ in range(qubits - 1):
        strings = np.array([np.kron(high, low) for high in _PAULI for low in strings])
    return strings


def _transfer(unitaries: NDArray[Any]) -> Array:
    """Return T_ij = Tr(P_i U P_j U^dagger) / d, (R, 4^m, 4^m)."""
    dimension = unitaries.shape[-1]
    strings = _pauli_strings(dimension.bit_length() - 1)
    moved = unitaries[:, None] @ strings @ unitaries.conj().transpose(0, 2, 1)[:, None]
    return np.asarray(np.einsum("iba,rjab->rij", strings, moved).real / dimension, dtype=np.float64)


def _apply(state: Array, out: Array, qubits: tuple[int, ...], transfer: Array) -> None:
    """Write ``transfer`` applied to ``state`` into ``out``, part by part: most of its elements are zero."""
    parts, written = _parts(state, qubits), _parts(out, qubits)
    present = np.abs(transfer).max(axis=0) > _ZERO
    factors = transfer.reshape(*transfer.shape, *[1] * (parts[0].ndim - 1))
    for row, into in enumerate(written):
        columns = np.flatnonzero(present[row])
        if not columns.size:
            into[...] = 0.0
            continue
        np.multiply(parts[columns[0]], factors[:, row, columns[0]], out=into)
        for column in columns[1:]:
            np.add(into, parts[column] * factors[:, row, column], out=into)


def _parts(state: Array, qubits: tuple[int, ...]) -> list[Array]:
    """Return views of the expectations with each Pauli string on ``qubits``, in the order of ``_pauli_strings``."""
    rows = state.shape[0]
    if len(qubits) == 1:
        axes = state.reshape(rows, -1, 4, 4 ** qubits[0])
        return [axes[:, :, pauli] for pauli in range(4)]
    low, high = sorted(qubits)
    axes = state.reshape(rows, -1, 4, 4 ** (high - low - 1), 4, 4**low)
    if qubits[0] == low:
        return [axes[:, :, second, :, first] for second in range(4) for first in range(4)]
    return [axes[:, :, first, :, second] for second in range(4) for first in range(4)]


@lru_cache(maxsize=16)
def _z_strings(qubits: int) -> NDArray[np.intp]:
    """Return the places of the strings of I and Z, in the order of the bits that say where the Z are."""
    bits = np.arange(1 << qubits)
    places = np.zeros(1 << qubits, dtype=np.intp)
    for qubit in range(qubits):
        places += 3 * 4**qubit * ((bits >> qubit) & 1)
    return places


class NoisySimulatorBackend:
    """A backend like ``simulator``, with noise: exact noisy probabilities, then shots drawn from them. Free."""

    def __init__(
        self, name: str, noise: NoiseModel, *, rng: np.random.Generator, clock: Clock, max_qubits: int = MAX_QUBITS
    ) -> None:
        self.name = name
        self.noise = noise
        self._rng = rng
        self._clock = clock
        self.limits = BackendLimits(
            max_qubits=max_qubits,
            max_circuits=5_000,
            max_gates=1_000_000,
            max_shots=1_000_000_000,
            one_qubit_fidelity=noise.one_qubit_fidelity,
            two_qubit_fidelity=noise.two_qubit_fidelity,
        )

    def run(self, batch: CircuitBatch, shots: int, *, job_key: str, timeout_s: float) -> BackendResult:  # noqa: ARG002
        """Run the batch; see ``QuantumBackend.run``. The deadline is looked at between chunks of circuits."""
        check_limits(self.name, self.limits, [batch], shots)
        end_s = self._clock.monotonic_s() + timeout_s
        counts: list[Mapping[int, int]] = []
        for found in _chunks(batch, self.noise):
            clipped = found.clip(0.0)  # rounding leaves -1e-17 where an outcome is impossible
            drawn = self._rng.multinomial(shots, clipped / clipped.sum(axis=1, keepdims=True))
            counts += [{int(outcome): int(row[outcome]) for outcome in np.flatnonzero(row)} for row in drawn]
            if len(counts) < len(batch) and self._clock.monotonic_s() > end_s:
                raise DeadlineExceeded(f"{self.name} had run {len(counts)} of {len(batch)} circuits in time")
        return BackendResult(counts=tuple(counts), provenance="simulated shots", backend=self.name, cost_usd=0.0)
