"""The peer of ``benchmarks.serving`` in circuits: ``python -m benchmarks.naive_overlap VECTORS.npy QUERIES.npy``.

As one would write it first with qiskit: for each of a query's candidates a circuit that prepares the query, un-prepares
the candidate, and measures how often all qubits are zero; transpiled and run on Aer, one after another. Prints the
median of the seconds that a query takes. In a process of its own: Aer and Ray do not get on in one.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import StatePreparation
from qiskit_aer import AerSimulator

from quantum_db.modes import MODES

MODE = MODES["balanced"]


def circuit_of(query: NDArray[np.float64], candidate: NDArray[np.float64]) -> QuantumCircuit:
    """Return the circuit of two unit vectors whose length is a power of two: P(all zero) is their fidelity."""
    qubits = query.size.bit_length() - 1
    circuit = QuantumCircuit(qubits)
    circuit.append(StatePreparation(query), range(qubits))
    circuit.append(StatePreparation(candidate).inverse(), range(qubits))
    circuit.measure_all()
    return circuit


def fidelities(
    query: NDArray[np.float64], candidates: NDArray[np.float64], simulator: AerSimulator
) -> NDArray[np.float64]:
    """Return the estimate for each candidate, (N,)."""
    found = []
    for candidate in candidates:
        circuit = transpile(circuit_of(query, candidate), basis_gates=["u", "cx"])
        counts = simulator.run(circuit, shots=MODE.shots).result().get_counts()
        found.append(counts.get("0" * circuit.num_qubits, 0) / MODE.shots)
    return np.array(found)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def main() -> None:
    vectors, queries = (unit(np.load(path).astype(np.float64)) for path in sys.argv[1:])
    simulator, seconds = AerSimulator(method="statevector", max_parallel_threads=1), []
    for query in queries:
        start = time.perf_counter()
        nearest = np.argsort(-(vectors @ query))[: MODE.candidates]
        found = fidelities(query, vectors[nearest], simulator)
        seconds.append(time.perf_counter() - start)
        np.testing.assert_allclose(found, (vectors[nearest] @ query) ** 2, atol=0.05)
    print(statistics.median(seconds))


if __name__ == "__main__":
    main()
