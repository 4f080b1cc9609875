"""The circuit families that score candidates, side by side: ``python -m benchmarks.circuit_families``.

Peer: qiskit's ``StatePreparation`` of the candidate followed by the inverse one of the query, transpiled at level 3,
counted in the same run. Figures are medians over candidates. Standard errors are measured over repeated runs with
shots drawn from the exact probabilities, at equal shots in all for every family. Noise is depolarising in Aer's density
matrices at the fidelities published for IonQ Forte (two qubits 99.6%, one qubit 99.98%), without readout errors.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from qiskit import QuantumCircuit, transpile
from qiskit.circuit.library import StatePreparation
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, depolarizing_error

from quantum_db.circuits.encoding import SpanEncoding
from quantum_db.circuits.feature_map import zz_kernel_circuits, zz_kernel_template
from quantum_db.circuits.multiplexed import (
    joint_standard_error,
    multiplexed_circuit,
    multiplexed_fidelities,
    multiplexed_template,
)
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import SimulatorBackend, probabilities
from quantum_db.circuits.superposition import (
    asked_states,
    context_scores,
    estimate_context_score,
    measured_states,
    register_states,
    superposition_circuits,
)
from quantum_db.circuits.template import ROTATION_GATES, CircuitBatch, Gate
from quantum_db.circuits.unary import SUCCESS, unary_fidelities, unary_overlap_circuits, unary_overlap_template

Array = NDArray[np.float64]
Values = Callable[[Sequence[dict[int, int]]], Array]

TWO_QUBIT_FIDELITY = 0.996
ONE_QUBIT_FIDELITY = 0.9998
TOTAL_SHOTS = 64_000
RUNS = 300
TRAJECTORIES = 2_500


@dataclass(frozen=True)
class Family:
    """One way to score ``len(truth)`` candidates: its circuits, how counts become values, and the errors expected."""

    name: str
    batch: CircuitBatch
    truth: Array
    values: Values
    expected: Array


def candidates(seed: int, rows: int, dimension: int) -> SpanEncoding:
    """Candidates whose fidelities with the query lie between about 0.1 and 0.9, as lifted vectors' do."""
    rng = np.random.default_rng(seed)
    query = rng.normal(size=dimension)
    query /= np.linalg.norm(query)
    vectors = rng.normal(size=(rows, dimension))
    vectors -= (vectors @ query)[:, None] * query
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = np.sqrt(np.linspace(0.1, 0.9, rows))[:, None]
    vectors = cosine * query + np.sqrt(1.0 - cosine**2) * vectors
    return SpanEncoding(query, vectors, (dimension - 1).bit_length(), 0.0)


def families(encoding: SpanEncoding) -> list[Family]:
    rows, dimension = encoding.candidates.shape
    qubits = encoding.num_qubits
    truth = (encoding.candidates @ encoding.query) ** 2
    each = TOTAL_SHOTS // rows
    binomial = np.sqrt(truth * (1.0 - truth) / each)
    one = multiplexed_circuit(encoding, multiplexed_template(rows, qubits))
    joint = joint_standard_error(truth, rows, TOTAL_SHOTS)
    inversion = overlap_circuits(encoding, overlap_template(qubits))
    unary = unary_overlap_circuits(encoding.query, encoding.candidates, unary_overlap_template(dimension))
    features = np.random.default_rng(3).uniform(0.0, 0.6, size=(rows + 1, 4))
    zz = zz_kernel_circuits(features[0], features[1:], zz_kernel_template(4))
    kernel = probabilities(zz)[:, 0]

    def zeros(counts: Sequence[dict[int, int]]) -> Array:
        return np.array([row.get(0, 0) / each for row in counts])

    def from_joint(counts: Sequence[dict[int, int]]) -> Array:
        return multiplexed_fidelities(counts[0], rows, qubits, 0.95, "joint").values

    def from_conditional(counts: Sequence[dict[int, int]]) -> Array:
        return multiplexed_fidelities(counts[0], rows, qubits).values

    def from_unary(counts: Sequence[dict[int, int]]) -> Array:
        return unary_fidelities(counts).fidelities.values

    kernel_error = np.sqrt(kernel * (1.0 - kernel) / each)
    return [
        Family("inversion, merged", inversion, truth, zeros, binomial),
        Family("multiplexed, joint", one, truth, from_joint, joint),
        Family("multiplexed, conditional", one, truth, from_conditional, binomial),
        Family("unary tree", unary, truth, from_unary, binomial),
        Family("ZZ kernel, 4 features, r = 2 (its own k)", zz, kernel, zeros, kernel_error),
    ]


def peer_cx(encoding: SpanEncoding) -> int:
    """The CX of qiskit's way for one candidate."""
    circuit = QuantumCircuit(encoding.num_qubits)
    circuit.append(StatePreparation(encoding.candidates[0]), range(encoding.num_qubits))
    circuit.append(StatePreparation(encoding.query).inverse(), range(encoding.num_qubits))
    compiled = transpile(circuit, basis_gates=["u", "cx"], optimization_level=3, seed_transpiler=0)
    return int(compiled.count_ops().get("cx", 0))


def measured_error(family: Family) -> Array:
    """The root mean square error of each value over ``RUNS`` runs."""
    rng = np.random.default_rng(7)
    chances = probabilities(family.batch)
    shots = TOTAL_SHOTS // len(family.batch)
    errors = []
    for _ in range(RUNS):
        drawn = rng.multinomial(shots, chances)
        counts = [dict(zip(np.flatnonzero(row).tolist(), row[row > 0].tolist(), strict=True)) for row in drawn]
        errors.append(family.values(counts) - family.truth)
    return np.asarray(np.sqrt((np.array(errors) ** 2).mean(axis=0)))


def print_costs(rows: int, dimension: int) -> None:
    encoding = candidates(1, rows, dimension)
    peer = peer_cx(encoding)
    print(f"\nK = {rows} candidates in d = {dimension} dimensions, {TOTAL_SHOTS:,} shots in all\n")
    print(
        "| family | circuits | qubits | two-qubit gates | per candidate / peer | two-qubit depth | survival "
        "| error measured | by formula | measured / formula |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    survival = f"{TWO_QUBIT_FIDELITY**peer:.3f}"
    print(f"| qiskit StatePreparation (peer) | {rows} | {encoding.num_qubits} | {peer} | 1.00 | - | {survival} | | | |")
    for family in families(encoding):
        template = family.batch.template
        gates, error = template.two_qubit_gates, measured_error(family)
        ratio = gates * len(family.batch) / rows / peer
        sizes = f"| {family.name} | {len(family.batch)} | {template.num_qubits} | {gates} | {ratio:.2f}"
        chance = f"| {template.two_qubit_depth} | {TWO_QUBIT_FIDELITY**gates:.3f}"
        errors = f"| {np.median(error):.5f} | {np.median(family.expected):.5f}"
        print(f"{sizes} {chance} {errors} | {np.median(error / family.expected):.2f} |", flush=True)


def noise() -> NoiseModel:
    """Depolarising errors of the given average gate fidelities: 1 - f = p (1 - 1 / 2^q)."""
    model = NoiseModel(basis_gates=["ry", "rz", "h", "cx", "rzz"])
    model.add_all_qubit_quantum_error(depolarizing_error((1 - TWO_QUBIT_FIDELITY) * 4 / 3, 2), ["cx", "rzz"])
    model.add_all_qubit_quantum_error(depolarizing_error((1 - ONE_QUBIT_FIDELITY) * 2, 1), ["ry", "rz", "h"])
    return model


def to_qiskit(gates: list[Gate], qubits: int) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    for gate in gates:
        angle = (gate.angle,) if gate.name in ROTATION_GATES else ()
        getattr(circuit, gate.name)(*angle, *gate.qubits)
    return circuit


def noisy_probabilities(batch: CircuitBatch) -> Array:
    """Exact ones from density matrices; above 10 qubits the shares of ``TRAJECTORIES`` noisy shots."""
    qubits = batch.template.num_qubits
    exact = qubits <= 10
    simulator = AerSimulator(
        method="density_matrix" if exact else "matrix_product_state",
        noise_model=noise(),
        max_parallel_threads=1,
        seed_simulator=1,
    )
    circuits = [to_qiskit(gates, qubits) for gates in batch.template.gates(batch.angles)]
    for circuit in circuits:
        if exact:
            circuit.save_probabilities()
        else:
            circuit.measure_all()
    result = simulator.run(circuits, shots=TRAJECTORIES).result()
    if exact:
        return np.array([result.data(place)["probabilities"] for place in range(len(circuits))])
    shares = np.zeros((len(circuits), 1 << qubits))
    for place in range(len(circuits)):
        for outcome, count in result.get_counts(place).int_outcomes().items():
            shares[place, outcome] = count / TRAJECTORIES
    return shares


def print_noise(rows: int, dimension: int) -> None:
    encoding = candidates(2, rows, dimension)
    inversion, one, _, unary, _ = families(encoding)
    truth = inversion.truth
    index = noisy_probabilities(one.batch)[0].reshape(-1, dimension)[:rows]
    weight_one = np.bitwise_count(np.arange(1 << dimension)) == 1
    loaded = noisy_probabilities(unary.batch)
    found = [
        ("inversion, merged", noisy_probabilities(inversion.batch)[:, 0], np.ones(rows)),
        ("multiplexed, joint", index[:, 0] * rows, np.ones(rows)),
        ("multiplexed, conditional", index[:, 0] / index.sum(axis=1), np.ones(rows)),
        ("unary tree, all shots", loaded[:, SUCCESS], np.ones(rows)),
        (
            "unary tree, post-selected",
            loaded[:, SUCCESS] / loaded[:, weight_one].sum(axis=1),
            loaded[:, weight_one].sum(axis=1),
        ),
    ]
    base = float(np.abs(found[0][1] - truth).mean())
    shots = "no shot noise" if dimension <= 10 else f"unary from {TRAJECTORIES:,} shots a candidate, others exact"
    print(f"\nBias from noise, K = {rows}, d = {dimension} ({shots}; peer: merged inversion)\n")
    print("| family | mean error of F | error / inversion's | pairs in wrong order | shots kept |")
    print("|---|---|---|---|---|")
    for name, values, kept in found:
        error = float(np.abs(values - truth).mean())
        wrong = int((np.diff(values) < 0).sum())  # truth rises with the index
        print(f"| {name} | {error:.4f} | {error / base:.2f} | {wrong} of {rows - 1} | {kept.mean():.3f} |", flush=True)


def median_ms(run: Callable[[], object], rounds: int = 7) -> float:
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000.0)
    return statistics.median(times)


def print_contexts(entities: int, contexts: int, data_qubits: int) -> None:
    """Several contexts at once: the closed form against the circuits, in time and in error."""
    rng = np.random.default_rng(5)
    rows = entities * contexts
    owner = np.repeat(np.arange(entities), contexts)
    encoding = candidates(5, rows, 1 << data_qubits)
    weights = rng.dirichlet(np.ones(contexts), size=entities).ravel()
    asked = np.full(rows, 1.0 / contexts)
    lams = rng.uniform(size=entities)
    overlaps = encoding.candidates @ encoding.query

    def closed() -> Array:
        return context_scores(overlaps, weights, asked, owner, entities, lams).values

    states = register_states(encoding.candidates, weights, owner, entities)
    context_qubits = (contexts - 1).bit_length()
    measured = measured_states(entities, context_qubits)
    both = np.concatenate([asked_states(asked, owner, entities), measured])
    batch = superposition_circuits(np.concatenate([states, states]), encoding.query, both)
    shots = 4_096
    backend = SimulatorBackend(rng)

    def sampled() -> Array:
        counts = backend.run(batch, shots, job_key="k", timeout_s=1.0).counts
        rows_of = [slice(e * contexts, (e + 1) * contexts) for e in range(entities)]
        return np.array([
            estimate_context_score(
                counts[e], counts[entities + e], weights[mine], asked[mine],
                context_qubits=context_qubits, data_qubits=data_qubits, coherence=float(lams[e]),
            ).value
            for e, mine in enumerate(rows_of)
        ])  # fmt: skip

    error = float(np.abs(sampled() - closed()).mean())
    exact_ms, shots_ms = median_ms(closed), median_ms(sampled)
    template = batch.template
    print(
        f"| {contexts} | {template.num_qubits} | {template.two_qubit_gates} "
        f"| {TWO_QUBIT_FIDELITY**template.two_qubit_gates:.3f} | {error:.4f} | {exact_ms:.3f} | {shots_ms:.1f} "
        f"| {shots_ms / exact_ms:,.0f} |",
        flush=True,
    )


def main() -> None:
    for size in (4, 8, 16):
        print_costs(size, size)
        print_noise(size, size)
    entities = 30
    print(f"\n{entities} entities, query in all their contexts, dephased; 2 circuits an entity, 4,096 shots each\n")
    print("| contexts | qubits | CX | survival | mean error | closed form ms | circuits ms | circuits / closed form |")
    print("|---|---|---|---|---|---|---|---|")
    for contexts in (2, 4, 8):
        print_contexts(entities, contexts, data_qubits=4)


if __name__ == "__main__":
    main()
