"""Amplitude estimation against plain sampling of the same overlap: ``python -m benchmarks.amplitude_estimation``.

For each length of the longest circuit, the median error over 300 fidelities uniform in [0.05, 0.95] and 100 shots a
circuit is measured; the peer is sampling with as many shots as reach the same median error (0.6745 sqrt(F (1 - F) / S);
with noise, of the corrected share, see ``quantum_db.circuits.planner``). Both use the merged overlap circuit, and the
survival is known to both. A ratio above 1 says that sampling costs more. Crossing point: the first line above 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quantum_db.circuits.amplitude_estimation import (
    Schedule,
    Survival,
    estimate_amplitudes,
    exponential_schedule,
    grover_probability,
    grover_template,
)
from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.planner import noisy_probability
from quantum_db.circuits.template import Template
from quantum_db.ionq.pricing import AZURE, BRAKET_FORTE, PriceModel

Array = NDArray[np.float64]
CASES, SHOTS = 300, 100
LONGEST = (0, 1, 2, 4, 8, 16, 32)
NORMAL_MEDIAN = 0.6745


def one_qubit_gates(template: Template) -> int:
    return len(template.structure) - template.two_qubit_gates


def median_error(truth: Array, schedule: Schedule, noise: Survival, rng: np.random.Generator) -> float:
    counts = [rng.binomial(schedule.shots, grover_probability(truth, power, noise)) for power in schedule.powers]
    found = estimate_amplitudes(np.stack(counts, axis=1), schedule, noise=noise)
    return float(np.median(np.abs(found.fidelities - truth)))


def sampling_shots(truth: Array, error: float, qubits: int, survival: float) -> int:
    """Return the shots with which corrected shares have this median error over the fidelities."""
    p = np.array([noisy_probability(float(f), survival, 1 << qubits) for f in truth])
    one_shot = np.sqrt(p * (1.0 - p)) / survival
    # the median of |N(0, s^2)| over a mixture of s, by its quantiles: exact enough for a ratio
    normal = np.abs(np.random.default_rng(0).normal(size=2_000))
    return max(1, round((float(np.median(np.outer(one_shot, normal))) / error) ** 2))


def estimation_usd(price: PriceModel, schedule: Schedule, templates: list[Template]) -> float:
    return sum(
        price.cost_usd(1, schedule.shots, one_qubit_gates(template), template.two_qubit_gates) for template in templates
    )


def table(qubits: int, gate_fidelity: float, rng: np.random.Generator) -> None:
    overlap = overlap_template(qubits)
    plain = gate_fidelity**overlap.two_qubit_gates
    noise = Survival(plain, gate_fidelity ** (1 << qubits), qubits)
    truth = rng.uniform(0.05, 0.95, size=CASES)
    kind = "without noise" if gate_fidelity == 1.0 else f"two-qubit fidelity {gate_fidelity}"
    print(f"\n**{qubits} qubits, {kind}**: {overlap.two_qubit_gates} CX an overlap, survival {plain:.3f}\n")
    print("| longest power | median error | preparations | survival of the longest ", end="")
    print("| sampling's shots | ratio in preparations | in CX | in USD, Braket Forte | in USD, Azure |")
    print("|---|---|---|---|---|---|---|---|---|")
    crossing: dict[str, float] = {}
    for longest in LONGEST:
        schedule = exponential_schedule(longest, SHOTS)
        templates = [grover_template(qubits, power) for power in schedule.powers]
        error = median_error(truth, schedule, noise, rng)
        shots = sampling_shots(truth, error, qubits, plain)
        gates = schedule.shots * sum(template.two_qubit_gates for template in templates)
        ratios = {
            "preparations": shots / schedule.preparations,
            "CX": shots * overlap.two_qubit_gates / gates,
        }
        for price in (BRAKET_FORTE, AZURE):
            sampled = price.cost_usd(1, shots, one_qubit_gates(overlap), overlap.two_qubit_gates)
            ratios[price.name] = sampled / estimation_usd(price, schedule, templates)
        for name, ratio in ratios.items():
            if ratio > 1.15 and name not in crossing:  # 300 cases leave a tenth of uncertainty
                crossing[name] = error
        kept = noise.kept(longest)
        cells = " | ".join(f"{ratio:.2f}" for ratio in ratios.values())
        print(f"| {longest} | {error:.5f} | {schedule.preparations:,} | {kept:.3f} | {shots:,} | {cells} |", flush=True)
    said = ", ".join(
        f"{name} below {crossing[name]:.4f}" if name in crossing else f"{name} never"
        for name in ("preparations", "CX", BRAKET_FORTE.name, AZURE.name)
    )
    print(f"\nEstimation is the cheaper one at median errors: {said}.")


def main() -> None:
    rng = np.random.default_rng(20_262)
    for qubits in (3, 4, 6):
        for gate_fidelity in (1.0, 0.9999, 0.996):
            table(qubits, gate_fidelity, rng)


if __name__ == "__main__":
    main()
