"""Group circuits, CHSH, batches of operations, and QAOA on small selections; each against its named peer, in one run.

    python -m benchmarks.entanglement [--instances N] [--seed S]

Peers: the GHZ ladder (each CX after the one before) for the group circuit; one job for each operation for the batch;
uniform draws of a feasible selection, greedy, and branch and bound for QAOA. All circuits run on the ideal simulator;
"survival" is the chance that no two-qubit gate of one shot fails at a fidelity of 99.6%. "optimum found" is a share of
instances, for uniform draws the exact probability.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from benchmarks.tunneling import Instance, instance
from quantum_db import tunneling
from quantum_db.backend_ports import BackendLimits
from quantum_db.circuits.batch import plan_batch
from quantum_db.circuits.entanglement import (
    chsh_circuits,
    correlation_circuit,
    estimate_chsh,
    estimate_correlation,
    estimate_group,
)
from quantum_db.circuits.qaoa import QaoaPlan, plan_qaoa, run_qaoa
from quantum_db.circuits.qaoa_ansatz import Mixer, diverse_selection
from quantum_db.circuits.simulator import SimulatorBackend, probabilities
from quantum_db.ionq.pricing import AZURE, BRAKET_FORTE


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def groups(seed: int) -> None:
    backend = SimulatorBackend(np.random.default_rng([seed, 1]))
    rows = []
    for members in (2, 3, 4, 8, 12):
        worst, pair_width, mean_width, held = 0.0, [], [], 0
        basis = np.arange(1 << members)
        signs = 1 - 2 * ((basis[:, None] >> np.arange(members)) & 1)
        strengths = np.linspace(0.0, 1.0, 11)
        for strength in strengths:
            batch = correlation_circuit(members, float(strength))
            row = probabilities(batch)[0]
            worst = max(worst, *(abs((signs[:, i] * signs[:, j]) @ row - strength) for i, j in pairs(members)))
            for _ in range(10):
                counts = backend.run(batch, 1_000, job_key="k", timeout_s=9.0).counts[0]
                pair, mean = estimate_correlation(counts, (0, 1)), estimate_group(counts, members).mean
                pair_width.append(pair.interval.high - pair.interval.low)
                mean_width.append(mean.interval.high - mean.interval.low)
                held += pair.interval.low <= strength <= pair.interval.high
        template = batch.template
        rows.append(
            [
                str(members),
                f"{worst:.0e}",
                str(template.two_qubit_gates),
                f"{template.two_qubit_depth} / {members - 1}",
                f"{(members - 1) / template.two_qubit_depth:.1f}",
                f"{held / 110:.0%}",
                f"{statistics.median(pair_width):.3f}",
                f"{statistics.median(mean_width) / statistics.median(pair_width):.2f}",
            ]
        )
    table(
        "Group circuits, strengths 0, 0.1 ... 1, 10 runs of 1,000 shots each",
        ["members", "worst error of a pair's <ZZ>", "CX", "CX depth / ladder's", "ladder / ours",
         "95% intervals that hold", "interval of a pair", "of the mean of pairs / of a pair"],
        rows,
    )  # fmt: skip


def pairs(members: int) -> list[tuple[int, int]]:
    return list(combinations(range(members), 2))


def chsh(seed: int) -> None:
    backend = SimulatorBackend(np.random.default_rng([seed, 2]))
    rows = []
    for members, strength in ((2, 1.0), (2, 0.85), (2, 0.6), (3, 0.85), (8, 0.85)):
        cells = [f"{members}, {strength}"]
        for axes in ("state", "computational"):
            test = chsh_circuits(members, strength, axes=axes)  # type: ignore[arg-type]
            found = [
                estimate_chsh(test, backend.run(test.batch, 500, job_key="k", timeout_s=9.0).counts) for _ in range(100)
            ]
            cells += [
                f"{test.expected:.3f}",
                f"{statistics.median(one.value for one in found):.3f} ± {found[0].standard_error:.3f}",
                f"{sum(one.violates for one in found)}%",
            ]
        rows.append(cells)
    table(
        "CHSH, 100 tests of 4 x 500 shots; the classical bound is 2",
        ["members, s", "S, axes of the state", "measured", "violations", "S, fixed axes", "measured", "violations"],
        rows,
    )


def batches(seed: int) -> None:
    rng = np.random.default_rng([seed, 3])

    def vectors(count: int, dimension: int) -> list[dict[str, object]]:
        drawn = rng.normal(size=(count, dimension)).tolist()
        return [{"op": "encode", "id": f"v{dimension}_{i}", "vector": v} for i, v in enumerate(drawn)]

    def group(size: int, name: str) -> dict[str, object]:
        return {"op": "entangle", "entity_ids": [f"{name}{i}" for i in range(size)], "correlation_strength": 0.85}

    cases = {
        "2 vectors of 16, a group of 3": [*vectors(2, 16), group(3, "m")],
        "9 vectors of 16": vectors(9, 16),
        "10 vectors of 16": vectors(10, 16),
        "10 vectors of 16, no idle blocks": vectors(10, 16),
        "6 groups of 4": [group(4, f"g{i}_") for i in range(6)],
        "4 vectors of 64, 4 of 8, 3 groups of 3": [
            *vectors(4, 64),
            *vectors(4, 8),
            *(group(3, f"g{i}_") for i in range(3)),
        ],
    }
    limits = BackendLimits(max_qubits=12, max_circuits=100, max_gates=150_000, max_shots=1_000_000)
    rows = []
    for name, operations in cases.items():
        fill = "no idle" not in name
        plan = plan_batch([*operations, {"op": "measure", "shots": 1_000}], "simulator", limits, fill=fill)
        ours, peer = plan.effort, plan.separate
        costs = [(ours.price_usd(price), peer.price_usd(price)) for price in (BRAKET_FORTE, AZURE)]
        rows.append(
            [
                name,
                *(f"{a} / {b} ({b / a:.1f}x)" for a, b in ((ours.jobs, peer.jobs), (ours.circuits, peer.circuits))),
                f"{ours.shots:,} / {peer.shots:,}",
                f"{peer.two_qubit_gates / ours.two_qubit_gates:.2f}",
                *(f"${a:,.2f} / ${b:,.2f} ({b / a:.2f}x)" for a, b in costs),
            ]
        )
    table(
        "Batches on 12 qubits, 1,000 shots: planned / one job for each operation",
        ["operations", "jobs", "circuits", "shots", "CX ratio", "Braket Forte", "Azure"],
        rows,
    )


def qaoa(count: int, seed: int) -> None:
    shots = 64
    backend = SimulatorBackend(np.random.default_rng([seed, 4]))
    for candidates, k in ((8, 3), (10, 4), (12, 4)):
        rng = np.random.default_rng([seed, 5, candidates])
        drawn = [instance(rng, candidates, 6, "overlap", (0.3, 0.6, 1.0)[n % 3]) for n in range(count)]
        exact_s, optima = [], []
        for one in drawn:
            start = time.process_time()
            optima.append(tunneling.exact(one.relevance, one.similarity, k, one.diversity).value)
            exact_s.append(time.process_time() - start)
        exact_ms = 1e3 * statistics.median(exact_s)
        greedy = [tunneling.greedy(o.relevance, o.similarity, k, o.diversity).value for o in drawn]
        uniform = 1 / math.comb(candidates, k)
        rows = [
            ["exact", "1", "", "100%", f"{exact_ms:.2f}", "1", "", "", ""],
            ["greedy", "", "", f"{share(greedy, optima):.0%}", "", "", "", "", ""],
            ["uniform draws", f"{uniform:.4f}", "1", f"{1 - (1 - uniform) ** shots:.0%}", "", "", "", "", ""],
        ]
        variants: list[tuple[Mixer, int]] = [("xy-ring", 1), ("xy-ring", 2), ("xy-ring", 4), ("xy-ring", 8), ("x", 4)]
        for mixer, layers in variants:
            rows.append(qaoa_row(drawn, k, (mixer, layers), Reference(optima, uniform, exact_ms), shots, backend, seed))
        table(
            f"QAOA, a demonstration: {k} of {candidates} candidates, {count} instances, {shots} shots",
            ["solver", "P(optimum) a shot", "to uniform", "optimum found", "ms", "to exact",
             "two-qubit gates", "survival at 99.6%", "64 shots on Forte"],
            rows,
        )  # fmt: skip


def share(values: list[float], optima: list[float]) -> float:
    return sum(value > best - 1e-9 for value, best in zip(values, optima, strict=True)) / len(optima)


@dataclass(frozen=True)
class Reference:
    """The optima, the chance of one uniform draw, and the median time of the proof."""

    optima: list[float]
    uniform: float
    exact_ms: float


def qaoa_row(
    drawn: list[Instance],
    k: int,
    variant: tuple[Mixer, int],
    reference: Reference,
    shots: int,
    backend: SimulatorBackend,
    seed: int,
) -> list[str]:
    mixer, layers = variant
    plans: list[QaoaPlan] = []
    times, values = [], []
    for number, one in enumerate(drawn):
        start = time.process_time()
        problem = diverse_selection(one.relevance, one.similarity, k, one.diversity)
        plan = plan_qaoa(problem, layers, np.random.default_rng([seed, number]), mixer)
        result, _ = run_qaoa(plan, backend, shots, job_key="k", timeout_s=60.0)
        times.append(time.process_time() - start)
        plans.append(plan)
        values.append(-math.inf if result.selection is None else result.selection.value)
    chance = statistics.median(plan.optimum_probability for plan in plans)
    milliseconds = 1e3 * statistics.median(times)
    gates = plans[0].batch.template.two_qubit_gates
    return [
        f"QAOA {mixer}{' and penalty' if mixer == 'x' else ''}, p = {layers}",
        f"{chance:.4f}",
        f"{chance / reference.uniform:.1f}",
        f"{share(values, reference.optima):.0%}",
        f"{milliseconds:.0f}",
        f"{milliseconds / reference.exact_ms:.0f}",
        str(gates),
        f"{0.996**gates:.2f}",
        f"${BRAKET_FORTE.cost_usd(1, shots, 0, gates):.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instances", type=int, default=9, help="of each size; 9 take a minute and a half")
    parser.add_argument("--seed", type=int, default=1969)
    args = parser.parse_args()
    start = time.perf_counter()
    groups(args.seed)
    chsh(args.seed)
    batches(args.seed)
    qaoa(args.instances, args.seed)
    print(f"\n{time.perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()
