"""The overlap planner against simulation with noise: ``python -m benchmarks.planner``.

For each family, the planner predicts the standard error of a fidelity after division by the known gate fidelities, and
the bias of the raw share, both in the model of global depolarising noise. The peer is the gate-by-gate density-matrix
simulation at the published fidelities, readout errors included. A ratio of 1 is a right prediction.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quantum_db import overlaps
from quantum_db.circuits.encoding import encode_span, lift
from quantum_db.circuits.noise import ARIA_1, FORTE_1, NoiseModel, NoisySimulatorBackend
from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.planner import FAMILIES, FamilyPlan
from quantum_db.clock import SystemClock
from quantum_db.errors import InvalidCircuit

SHOTS = 4_096
DRAWS = 40


def measured(plan: FamilyPlan, rows: int, noise: NoiseModel, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return the root mean square error of the corrected fidelities, its part that is bias, and the raw one's error."""
    vectors = rng.normal(size=(rows + 1, 60)) + 0.3
    lifted = lift(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    encoding = encode_span(lifted[0], lifted[1:], 8)
    exact = (encoding.candidates @ encoding.query) ** 2
    backend = NoisySimulatorBackend("noisy", noise, rng=rng, clock=SystemClock())
    ideal = replace(backend.limits, one_qubit_fidelity=1.0, two_qubit_fidelity=1.0)
    batch = overlaps.bind(plan.family, encoding, overlap_template(encoding.num_qubits))
    corrected, raw = [], []
    for draw in range(DRAWS):
        result = backend.run(batch, plan.shots, job_key=str(draw), timeout_s=600.0)
        for limits, into in ((backend.limits, corrected), (ideal, raw)):
            into.append(overlaps.read(plan.family, encoding, limits, result, 0.95).values - exact)
    errors = np.array(corrected)
    rms = float(np.sqrt((errors**2).mean()))
    return rms, float(np.abs(errors.mean(axis=0)).mean()), float(np.sqrt((np.array(raw) ** 2).mean()))


def main() -> None:
    rng = np.random.default_rng(17)
    print(f"{DRAWS} draws of each job; wanted: the error of {SHOTS:,} ideal shots, {0.5 / np.sqrt(SHOTS):.4f}\n")
    columns = "machine | K | family | qubits | CX | shots | planned error | measured | measured / planned | of it bias"
    print(f"| {columns} | raw |")
    print(f"|{'---|' * 11}")
    for noise in (FORTE_1, ARIA_1):
        for rows in (3, 7, 15):
            vectors = rng.normal(size=(rows + 1, 60))
            lifted = lift(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            encoding = encode_span(lifted[0], lifted[1:], 8)
            limits = NoisySimulatorBackend("noisy", noise, rng=rng, clock=SystemClock()).limits
            try:
                plan = overlaps.plan(encoding, limits, SHOTS)
            except InvalidCircuit as error:
                print(f"| {noise.name} | {rows} | none fits: {error.detail} |")
                continue
            for one in sorted((plan.chosen, *plan.alternatives), key=lambda p: FAMILIES.index(p.family)):
                if not one.feasible:
                    print(f"| {noise.name} | {rows} | {one.family} | - | - | - | not feasible: {one.note} | | | | |")
                    continue
                rms, bias, raw = measured(one, rows, noise, rng)
                chosen = " (chosen)" if one is plan.chosen else ""
                cells = [noise.name, rows, one.family + chosen, one.qubits, one.two_qubit_gates, f"{one.shots:,}"]
                cells += [f"{one.standard_error:.4f}", f"{rms:.4f}", f"{rms / one.standard_error:.2f}"]
                print(f"| {' | '.join(map(str, cells))} | {bias:.4f} | {raw:.4f} |", flush=True)


if __name__ == "__main__":
    main()
