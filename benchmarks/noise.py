"""What noise does to merged overlap circuits, and what mitigation gives back: ``python -m benchmarks.noise``.

Under IonQ's published error rates the fidelity of query and candidate is estimated from shots in several ways, each
with the same total number of shots, calibration and folded circuits included. The peer is the raw estimate: the table
shows root-mean-square errors and their ratio to it; below 1 the mitigation helps. Then what it does to a ranking,
survival against the formula f^(CX), and the simulator against qiskit-aer's density matrix.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import statistics
import time
from collections.abc import Callable

import numpy as np
from qiskit import QuantumCircuit
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel as AerNoiseModel
from qiskit_aer.noise import depolarizing_error

from quantum_db.circuits.encoding import SpanEncoding, lift
from quantum_db.circuits.mitigation import (
    Estimate,
    Extrapolation,
    ReadoutCalibration,
    calibration_circuits,
    divide_out,
    extrapolate,
    fold,
    mitigate_readout,
    shot_shares,
    survival_of_reference,
)
from quantum_db.circuits.noise import ARIA_1, FORTE_1, IDEAL, NoiseModel, noisy_probabilities
from quantum_db.circuits.overlap import overlap_circuits, overlap_template
from quantum_db.circuits.simulator import probabilities
from quantum_db.circuits.template import CircuitBatch

MODELS = (FORTE_1, ARIA_1)
CIRCUITS = 24
REPEATS = 60
SCALES = (1, 3)
CALIBRATION_SHARE = 0.05
ROUNDS = 5
METHODS = ("readout", "ZNE linear", "ZNE exp.", "readout + ZNE exp.", "readout + divide", "self-overlap")
TOP = 6


def overlaps(qubits: int) -> CircuitBatch:
    """Circuits of lifted vectors, so that fidelities are spread from about 0.1 to 0.95; the last has fidelity 1."""
    rng = np.random.default_rng(qubits)
    size = (1 << qubits) - 1
    query = rng.normal(size=size)
    query /= np.linalg.norm(query)
    others = rng.normal(size=(CIRCUITS, size))
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    pull = rng.uniform(0.0, 3.0, size=(CIRCUITS, 1))
    vectors = pull * query + others
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.concatenate([vectors, query[None, :]])  # the last circuit is the query's overlap with itself
    encoding = SpanEncoding(lift(query[None, :])[0], lift(vectors), qubits, 0.0)
    return overlap_circuits(encoding, overlap_template(qubits))


class Trial:
    """Draws shots of one batch under one model. All circuits share one calibration."""

    def __init__(self, qubits: int, noise: NoiseModel, shots: int, rng: np.random.Generator) -> None:
        batch = overlaps(qubits)
        self.qubits = qubits
        self.mixed = 1.0 / (1 << qubits)
        self.exact = probabilities(batch)[:CIRCUITS, 0]
        two = batch.template.two_qubit_gates
        self.survival = noise.survival(len(batch.template.structure) - two, two)
        self._shots = shots
        self._rng = rng
        self._read = {scale: noisy_probabilities(fold(batch, scale).batch, noise).clip(0.0) for scale in SCALES}
        self._read_calibration = noisy_probabilities(calibration_circuits(qubits), noise).clip(0.0)

    def estimates(self, method: str) -> np.ndarray:
        """Return the estimates of one repetition, (CIRCUITS,)."""
        if method == "self-overlap":
            return self._by_reference()
        calibrated = method.startswith("readout")
        calibration_shots = round(CALIBRATION_SHARE * self._shots * CIRCUITS / 2) if calibrated else 0
        shots = self._shots - 2 * calibration_shots // CIRCUITS
        calibration = self._calibrate(calibration_shots) if calibrated else None
        if "ZNE" not in method:
            found = self._estimate(1, shots, calibration)
            return (divide_out(found, self.survival, self.mixed) if "divide" in method else found).values
        curve: Extrapolation = "linear" if "linear" in method else "exponential"
        shares = shot_shares(SCALES, curve)
        found_at = [
            self._estimate(scale, round(share * shots), calibration)
            for scale, share in zip(SCALES, shares, strict=True)
        ]
        values = np.array([found.values for found in found_at])
        spread = np.array([found.standard_errors for found in found_at])
        return extrapolate(SCALES, values, spread, curve, self.mixed).values

    def _by_reference(self) -> np.ndarray:
        reference_shots = round(CALIBRATION_SHARE * self._shots * CIRCUITS)
        one = self._rng.binomial(reference_shots, self._read[1][-1, 0]) / reference_shots
        survival, error = survival_of_reference(one, reference_shots, self.mixed)
        found = self._estimate(1, self._shots - reference_shots // CIRCUITS, None)
        return divide_out(found, survival, self.mixed, error).values

    def _estimate(self, scale: int, shots: int, calibration: ReadoutCalibration | None) -> Estimate:
        shares = self._rng.multinomial(shots, _normal(self._read[scale][:CIRCUITS])) / shots
        if calibration is None:
            zero = shares[:, 0]
            return Estimate(zero, np.sqrt(zero * (1.0 - zero) / shots))
        found = mitigate_readout(shares, shots, calibration)
        return Estimate(found.values[:, 0], found.standard_errors[:, 0])

    def _calibrate(self, shots: int) -> ReadoutCalibration:
        drawn = self._rng.multinomial(shots, _normal(self._read_calibration))
        return ReadoutCalibration.measured([dict(enumerate(row.tolist())) for row in drawn], self.qubits)


def _normal(rows: np.ndarray) -> np.ndarray:
    return rows / rows.sum(axis=1, keepdims=True)


def rmse(trial: Trial, method: str) -> tuple[float, float, float]:
    """Return the root-mean-square error and its parts: bias (over circuits) and spread (over repetitions)."""
    errors = np.array([trial.estimates(method) - trial.exact for _ in range(REPEATS)])
    bias = np.sqrt((errors.mean(axis=0) ** 2).mean())
    return float(np.sqrt((errors**2).mean())), float(bias), float(np.sqrt(errors.var(axis=0).mean()))


def mitigation_table(shots: int) -> None:
    print(f"\n{shots:,} shots a circuit in all; {CIRCUITS} circuits, {REPEATS} repetitions\n")
    print(f"| model | qubits | CX | raw error | of it bias | {' | '.join(f'{name} / raw' for name in METHODS)} |")
    print(f"|---|---|---|---|---|{'---|' * len(METHODS)}")
    for noise in MODELS:
        for qubits in (2, 3, 4, 5, 6):
            trial = Trial(qubits, noise, shots, np.random.default_rng((qubits, shots)))
            raw, bias, _ = rmse(trial, "raw")
            ratios = " | ".join(f"{rmse(trial, method)[0] / raw:.2f}" for method in METHODS)
            cx = overlap_template(qubits).two_qubit_gates
            print(f"| {noise.name} | {qubits} | {cx} | {raw:.4f} | {bias:.4f} | {ratios} |", flush=True)


def variance_table(shots: int) -> None:
    print(f"\nthe price at {shots:,} shots: spread over repetitions / that of the raw estimate, and the bias left\n")
    print(f"| model | qubits | raw spread | {' | '.join(METHODS)} |")
    print(f"|---|---|---|{'---|' * len(METHODS)}")
    for noise in MODELS:
        for qubits in (3, 6):
            trial = Trial(qubits, noise, shots, np.random.default_rng((qubits, shots, 1)))
            _, _, raw = rmse(trial, "raw")
            cells = []
            for method in METHODS:
                _, bias, spread = rmse(trial, method)
                cells.append(f"{spread / raw:.2f}, {bias:.4f}")
            print(f"| {noise.name} | {qubits} | {raw:.5f} | {' | '.join(cells)} |", flush=True)


def ranking_table(shots: int) -> None:
    print(f"\nranking at {shots:,} shots: recall of the {TOP} best of {CIRCUITS}; without noise, raw, and mitigated\n")
    print(f"| model | qubits | no noise | raw | {' | '.join(METHODS)} |")
    print(f"|---|---|---|---|{'---|' * len(METHODS)}")
    for noise in MODELS:
        for qubits in (3, 4, 5, 6):
            rng = np.random.default_rng((qubits, shots, 2))
            ideal = Trial(qubits, IDEAL, shots, rng)
            trial = Trial(qubits, noise, shots, rng)
            found = [recall(ideal, "raw"), *(recall(trial, method) for method in ("raw", *METHODS))]
            cells = " | ".join(f"{share:.3f}" for share in found)
            print(f"| {noise.name} | {qubits} | {cells} |", flush=True)


def recall(trial: Trial, method: str) -> float:
    best = set(np.argsort(-trial.exact)[:TOP].tolist())
    found = [np.argsort(-trial.estimates(method))[:TOP] for _ in range(REPEATS)]
    return float(np.mean([len(best.intersection(top.tolist())) / TOP for top in found]))


def survival_table() -> None:
    print("\nequal vectors: what is left of an overlap of 1, exactly, against f^(CX), f the fidelity of a CX\n")
    print("| model | qubits | CX | CX noise | f^(CX) | ratio | all gates | readout too |")
    print("|---|---|---|---|---|---|---|---|")
    for noise in MODELS:
        only_cx = NoiseModel("CX", noise.source, two_qubit=noise.two_qubit)
        gates = NoiseModel("gates", noise.source, one_qubit=noise.one_qubit, two_qubit=noise.two_qubit)
        for qubits in (2, 3, 4, 5, 6, 7):
            vector = np.random.default_rng(qubits).normal(size=1 << qubits)
            vector /= np.linalg.norm(vector)
            template = overlap_template(qubits)
            batch = overlap_circuits(SpanEncoding(vector, vector[None, :], qubits, 0.0), template)
            left, all_gates, read = (noisy_probabilities(batch, model)[0, 0] for model in (only_cx, gates, noise))
            formula = noise.survival(0, template.two_qubit_gates)
            row = f"| {noise.name} | {qubits} | {template.two_qubit_gates} | {left:.4f} | {formula:.4f} "
            print(f"{row}| {left / formula:.3f} | {all_gates:.4f} | {read:.4f} |", flush=True)


def speed_table() -> None:
    model = AerNoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(FORTE_1.one_qubit, 1), ["ry"])
    model.add_all_qubit_quantum_error(depolarizing_error(FORTE_1.two_qubit, 2), ["cx"])
    aer = AerSimulator(method="density_matrix", noise_model=model, max_parallel_threads=1)
    gates_only = NoiseModel("gates", FORTE_1.source, one_qubit=FORTE_1.one_qubit, two_qubit=FORTE_1.two_qubit)
    print(f"\nmilliseconds for one circuit of {CIRCUITS}, one thread, medians of {ROUNDS} rounds\n")
    print("| qubits | CX | ours | Aer density matrix | Aer / ours | worst difference |")
    print("|---|---|---|---|---|---|")
    for qubits in (2, 3, 4, 5, 6, 7):
        batch = overlaps(qubits)
        circuits = []
        for gates in list(batch.template.gates(batch.angles))[:4]:
            circuit = QuantumCircuit(qubits)
            for gate in gates:
                if gate.name == "ry":
                    circuit.ry(gate.angle, *gate.qubits)
                else:
                    circuit.cx(*gate.qubits)
            circuit.save_probabilities()
            circuits.append(circuit)
        result = aer.run(circuits).result()
        expected = np.array([result.data(index)["probabilities"] for index in range(len(circuits))])
        difference = np.abs(noisy_probabilities(batch, gates_only)[: len(circuits)] - expected).max()
        ours = median_ms(lambda batch=batch: noisy_probabilities(batch, gates_only), CIRCUITS)
        peer = median_ms(lambda circuits=circuits: aer.run(circuits).result(), len(circuits))
        row = f"| {qubits} | {batch.template.two_qubit_gates} | {ours:.3f} | {peer:.2f} | {peer / ours:.1f} "
        print(f"{row}| {difference:.0e} |", flush=True)


def median_ms(run: Callable[[], object], per: int) -> float:
    run()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000.0 / per)
    return statistics.median(times)


def main() -> None:
    for shots in (1_000, 10_000, 100_000):
        mitigation_table(shots)
    variance_table(10_000)
    for shots in (1_000, 10_000):
        ranking_table(shots)
    survival_table()
    speed_table()


if __name__ == "__main__":
    main()
