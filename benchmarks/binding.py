"""Binding angles into a cached structure against transpiling each circuit: ``python -m benchmarks.binding``.

Ours, for overlap circuits whose structure is in the cache, in three depths: the angles of all lowered gates as one
array (what a template binds), gate lists, and the measured qiskit circuits that the IonQ backend submits. Angles are
bound for a batch of 64 and also for a single circuit. Peers, on the same circuits and angles, to the basis ry, cx:

- ``qiskit.transpile`` at levels 0 and 1 of the finished circuit, already in that basis: the least work it can have;
- a pass manager of level 1, made once and run on the same circuits: ``transpile`` makes one for each call;
- ``transpile`` at level 1 of the circuit as one would write it in qiskit, of uniformly controlled rotations
  (``UCRYGate``);
- ``assign_parameters`` of a circuit transpiled once with symbols for angles: qiskit's own way to bind.

Before anything is timed, circuits of up to 5 qubits are compared as unitaries, up to a global phase: ours, each peer's,
and the unlowered one of ``UCRYGate``. Milliseconds for one circuit, one thread, medians of rounds that alternate.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("QISKIT_PARALLEL", "FALSE")

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import UCRYGate
from qiskit.quantum_info import Operator
from qiskit.transpiler import StagedPassManager, generate_preset_pass_manager

from benchmarks.overlap import circuits
from quantum_db.circuits.cache import TemplateCache
from quantum_db.circuits.drawing import to_qiskit
from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.template import CircuitBatch, MultiplexedRY
from quantum_db.ionq.payload import qiskit_circuits as ionq_circuits

QUBITS = (3, 4, 5, 6, 7)
CHECKED_QUBITS = 5
PEER_BATCH = 8
GOAL = 100
OURS = ("angles", "angles, one circuit", "gate lists", "qiskit circuits")
PEERS = (
    "transpile, level 0",
    "transpile, level 1",
    "pass manager, level 1",
    "transpile UCRY, level 1",
    "assign_parameters",
)

Run = Callable[[], object]


def lowered(circuit: QuantumCircuit, level: int) -> QuantumCircuit:
    return transpile(circuit, basis_gates=["ry", "cx"], optimization_level=level)


def pass_manager() -> StagedPassManager:
    return generate_preset_pass_manager(optimization_level=1, basis_gates=["ry", "cx"])


def multiplexed(batch: CircuitBatch) -> list[QuantumCircuit]:
    """Return the circuits with qiskit's own uniformly controlled rotations in place of our lowering of them."""
    qubits, found = batch.template.num_qubits, []
    for row in batch.angles:
        circuit = QuantumCircuit(qubits, qubits)
        for step in batch.template.steps:
            assert isinstance(step, MultiplexedRY)
            angles = row[step.first_angle : step.first_angle + step.angle_count].tolist()
            if step.controls:
                circuit.append(UCRYGate(angles), list(step.qubits))
            else:
                circuit.ry(angles[0], step.target)
        circuit.measure(range(qubits), range(qubits))
        found.append(circuit)
    return found


def assigned(template_circuit: QuantumCircuit, batch: CircuitBatch) -> list[QuantumCircuit]:
    return [template_circuit.assign_parameters(row.tolist()) for row in batch.template.gate_angles(batch.angles)]


def unitary(circuit: QuantumCircuit) -> Operator:
    return Operator(circuit.remove_final_measurements(inplace=False))


def unequal(ours: Sequence[QuantumCircuit], theirs: Sequence[QuantumCircuit]) -> int:
    """Return how many of the circuits differ as unitaries by more than a global phase."""
    return sum(not unitary(a).equiv(unitary(b)) for a, b in zip(ours, theirs, strict=True))


def check(batch: CircuitBatch, symbolic: QuantumCircuit) -> int:
    """Compare what is timed; return the comparisons made. Raises AssertionError where two unitaries differ."""
    emitted, written = ionq_circuits(batch), multiplexed(batch)
    peers = {
        PEERS[0]: [lowered(one, 0) for one in emitted],
        PEERS[1]: [lowered(one, 1) for one in emitted],
        PEERS[2]: [pass_manager().run(one) for one in emitted],
        PEERS[3]: [lowered(one, 1) for one in written],
        PEERS[4]: assigned(symbolic, batch),
        "UCRY, not lowered": written,
    }
    for name, made in peers.items():
        if wrong := unequal(emitted, made):
            raise AssertionError(f"{wrong} of {len(batch)} circuits differ from those of: {name}")
    shifted = CircuitBatch(batch.template, batch.angles + 0.01)
    if unequal(ionq_circuits(shifted), written) != len(batch):
        raise AssertionError("the comparison does not see angles that are off by 0.01")
    return len(batch) * len(peers)


def medians(runs: dict[str, tuple[Run, int]], rounds: int) -> dict[str, float]:
    """Return milliseconds for one circuit; ``runs`` maps a name to what is run and how many circuits that makes."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, (run, count) in runs.items():
            start = time.perf_counter()
            run()
            if number > 0:  # the first round warms up
                times[name].append(1e3 * (time.perf_counter() - start) / count)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(batch: CircuitBatch, symbolic: QuantumCircuit, rounds: int) -> dict[str, float]:
    cache, qubits = TemplateCache(), batch.template.num_qubits
    cache.overlap(qubits)
    few = CircuitBatch(batch.template, batch.angles[:PEER_BATCH])
    finished, written, passes = ionq_circuits(few), multiplexed(few), pass_manager()
    runs: dict[str, tuple[Run, int]] = {
        "structure": (lambda: overlap_template(qubits).structure, 1),
        OURS[0]: (lambda: cache.overlap(qubits).gate_angles(batch.angles), len(batch)),
        OURS[1]: (lambda: cache.overlap(qubits).gate_angles(batch.angles[:1]), 1),
        OURS[2]: (lambda: list(cache.overlap(qubits).gates(batch.angles)), len(batch)),
        OURS[3]: (lambda: ionq_circuits(few), len(few)),
        PEERS[0]: (lambda: [lowered(one, 0) for one in finished], len(few)),
        PEERS[1]: (lambda: [lowered(one, 1) for one in finished], len(few)),
        PEERS[2]: (lambda: [passes.run(one) for one in finished], len(few)),
        PEERS[3]: (lambda: [lowered(one, 1) for one in written], len(few)),
        PEERS[4]: (lambda: assigned(symbolic, few), len(few)),
    }
    return medians(runs, rounds)


def row(cells: Sequence[object]) -> None:
    print(f"| {' | '.join(str(cell) for cell in cells)} |", flush=True)


def head(title: str, names: Sequence[str]) -> None:
    print(f"\n{title}\n")
    row(names)
    print(f"|{'---|' * len(names)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    start = time.perf_counter()
    batches = {qubits: circuits(qubits) for qubits in QUBITS}
    symbolic = {qubits: lowered(to_qiskit(batch.template), 0) for qubits, batch in batches.items()}
    compared = sum(
        check(CircuitBatch(batch.template, batch.angles[:PEER_BATCH]), symbolic[qubits])
        for qubits, batch in batches.items()
        if qubits <= CHECKED_QUBITS
    )
    print(f"{compared} comparisons of unitaries up to {CHECKED_QUBITS} qubits: all equal up to a global phase")
    times = {qubits: measure(batch, symbolic[qubits], args.rounds) for qubits, batch in batches.items()}

    head("Milliseconds for one circuit", ["qubits", "RY + CX", "structure, once", *OURS, *PEERS])
    for qubits, ms in times.items():
        structure = batches[qubits].template.structure
        two = batches[qubits].template.two_qubit_gates
        row([qubits, f"{len(structure) - two} + {two}", *(f"{value:.4f}" for value in ms.values())])

    head("Peer / ours", ["ours", "qubits", *PEERS])
    for ours in OURS:
        for qubits, ms in times.items():
            row([ours, qubits, *(f"{ms[peer] / ms[ours]:,.1f}" for peer in PEERS)])

    least = {ours: min(ms[peer] / ms[ours] for ms in times.values() for peer in PEERS[:2]) for ours in OURS}
    met = [f"{ours} (at least {ratio:,.1f})" for ours, ratio in least.items() if ratio >= GOAL]
    missed = [f"{ours} (from {ratio:,.1f})" for ours, ratio in least.items() if ratio < GOAL]
    print(f"\n{GOAL} times transpile of the finished circuit, at every size and both levels:")
    print(f"met by {', '.join(met) or 'none'}; not by {', '.join(missed) or 'none'}.")
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
