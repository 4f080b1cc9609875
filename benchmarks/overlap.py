"""One overlap circuit: our batched simulator against qiskit's Statevector and Aer: ``python -m benchmarks.overlap``.

Each peer gets the same circuits, already built and (for Aer) already transpiled; only running them is timed. Ours is
timed on a batch of 64, as queries use it. Medians over rounds, one thread. Qulacs is a peer where it is installed.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import statistics
import time
from collections.abc import Callable

try:
    import qulacs
except ImportError:
    qulacs = None

import numpy as np
from qiskit import QuantumCircuit
from qiskit.quantum_info import Statevector
from qiskit_aer import AerSimulator

from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CircuitBatch, Gate

BATCH = 64
SHOTS = 4_096
ROUNDS = 7


def circuits(qubits: int) -> CircuitBatch:
    vectors = np.random.default_rng(qubits).normal(size=(BATCH + 1, 1 << qubits))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return overlap_circuits(SpanEncoding(vectors[0], vectors[1:], qubits, 0.0), overlap_template(qubits))


def to_qiskit(gates: list[Gate], qubits: int, measured: bool) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for gate in gates:
        if gate.name == "ry":
            circuit.ry(gate.angle, *gate.qubits)
        else:
            circuit.cx(*gate.qubits)
    if measured:
        circuit.measure_all()
    return circuit


def qulacs_runner(lists: list[list[Gate]], qubits: int) -> Callable[[], object] | None:
    """Return what runs the circuits on Qulacs, or None where it is not installed."""
    if qulacs is None:
        return None
    circuits = []
    for gates in lists:
        circuit = qulacs.QuantumCircuit(qubits)
        for gate in gates:
            if gate.name == "ry":
                circuit.add_RY_gate(gate.qubits[0], -gate.angle)  # its rotations turn the other way
            else:
                circuit.add_CNOT_gate(*gate.qubits)
        circuits.append(circuit)

    def run() -> list[list[int]]:
        samples = []
        for circuit in circuits:
            state = qulacs.QuantumState(qubits)
            circuit.update_quantum_state(state)
            samples.append(state.sampling(SHOTS))
        return samples

    return run


def median_ms(run: Callable[[], object], per: int) -> float:
    run()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000.0 / per)
    return statistics.median(times)


def main() -> None:
    rng = np.random.default_rng(0)
    aer = AerSimulator(method="statevector", max_parallel_threads=1)
    print(f"milliseconds for one circuit with {SHOTS:,} shots; medians of {ROUNDS} rounds\n")
    print("| qubits | CX | ours | Statevector | Aer | Statevector / ours | Aer / ours | Qulacs / ours |")
    print("|---|---|---|---|---|---|---|---|")
    for qubits in (4, 5, 6, 7, 8):
        batch = circuits(qubits)
        lists = list(batch.template.gates(batch.angles[:4]))
        plain = [to_qiskit(gates, qubits, measured=False) for gates in lists]
        measured = [to_qiskit(gates, qubits, measured=True) for gates in lists]
        expected = [Statevector(circuit).probabilities()[0] for circuit in plain]
        np.testing.assert_allclose(probabilities(batch)[:4, 0], expected, atol=1e-9)
        ours = median_ms(lambda batch=batch: rng.multinomial(SHOTS, probabilities(batch)), BATCH)
        state = median_ms(
            lambda plain=plain: [Statevector(circuit).sample_counts(SHOTS) for circuit in plain], len(plain)
        )
        peer = median_ms(lambda measured=measured: aer.run(measured, shots=SHOTS).result(), len(measured))
        row = f"| {qubits} | {batch.template.two_qubit_gates} | {ours:.4f} | {state:.2f} | {peer:.2f} "
        other = qulacs_runner(lists, qubits)
        last = "not installed" if other is None else f"{median_ms(other, len(lists)) / ours:,.1f}"
        print(f"{row}| {state / ours:,.0f} | {peer / ours:,.0f} | {last} |", flush=True)


if __name__ == "__main__":
    main()
