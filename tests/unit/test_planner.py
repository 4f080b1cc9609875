"""The overlap planner: gate counts against templates, planned against simulated error, and what it chooses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from quantum_db.backend_ports import BackendLimits
from quantum_db.circuits import planner
from quantum_db.circuits.multiplexed import multiplexed_template
from quantum_db.circuits.overlap import overlap_template
from quantum_db.circuits.planner import (
    FAMILIES,
    FamilyPlan,
    GateFidelities,
    OverlapPlan,
    corrected,
    error_of_half_width,
    noisy_probability,
    plan_overlap,
    shape_of,
)
from quantum_db.circuits.template import Template
from quantum_db.circuits.unary import unary_overlap_template
from quantum_db.errors import InvalidCircuit
from quantum_db.ionq.pricing import AZURE, BRAKET_FORTE, FREE

LIMITS = BackendLimits(max_qubits=36, max_circuits=5_000, max_gates=150_000, max_shots=1_000_000)
FORTE = GateFidelities(one_qubit=0.9998, two_qubit=0.996)


def all_of(plan: OverlapPlan) -> list[FamilyPlan]:
    return [plan.chosen, *plan.alternatives]


def gate_counts(template: Template) -> tuple[int, int, int]:
    return template.num_qubits, len(template.structure) - template.two_qubit_gates, template.two_qubit_gates


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 12, 16])
@pytest.mark.parametrize("dimension", [2, 3, 5, 300])
def test_gate_counts_are_those_of_the_templates(count: int, dimension: int) -> None:
    merged = shape_of("merged", count, dimension)
    templates = {
        "merged": overlap_template(merged.qubits),
        "multiplexed": multiplexed_template(count, merged.qubits),
        "unary": unary_overlap_template(max(2, min(count + 1, dimension))),
    }
    for family in FAMILIES:
        shape = shape_of(family, count, dimension)
        assert (shape.qubits, shape.one_qubit_gates, shape.two_qubit_gates) == gate_counts(templates[family])


def simulated_error(plan: FamilyPlan, fidelity: float, scale: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the mean error and its deviation over 20,000 runs of one overlap, corrected for noise."""
    outcomes = 1 << plan.qubits
    p = noisy_probability(fidelity / scale, plan.survival, outcomes)
    shares = rng.binomial(plan.shots, p, size=20_000) / plan.shots
    estimates = scale * (shares - (1.0 - plan.survival) / outcomes) / plan.survival
    return float(estimates.mean() - fidelity), float(estimates.std())


@pytest.mark.parametrize("fidelities", [None, FORTE])
@pytest.mark.parametrize("fidelity", [0.1, 0.5, 0.9])
def test_the_planned_error_is_the_simulated_one(fidelities: GateFidelities | None, fidelity: float) -> None:
    plan = plan_overlap(
        7, 300, LIMITS, FREE, standard_error=0.02, fidelities=fidelities, families=FAMILIES, typical_fidelity=fidelity
    )
    rng = np.random.default_rng(1)
    assert len(all_of(plan)) == 3
    for each in all_of(plan):
        scale = 7 if each.family == "multiplexed" else 1
        bias, deviation = simulated_error(each, fidelity, scale, rng)
        assert each.standard_error <= 0.02
        assert deviation == pytest.approx(each.standard_error, rel=0.03)
        assert abs(bias) < 5.0 * each.standard_error / np.sqrt(20_000)


def test_the_check_of_the_error_catches_noise_that_was_forgotten() -> None:
    """The planted fault: a plan without noise, run with noise."""
    planned = plan_overlap(7, 300, LIMITS, FREE, standard_error=0.02).chosen
    noisy = plan_overlap(7, 300, LIMITS, FREE, standard_error=0.02, fidelities=GateFidelities(0.999, 0.97)).chosen
    p = noisy_probability(0.5, noisy.survival, 1 << noisy.qubits)
    shares = np.random.default_rng(2).binomial(planned.shots, p, size=20_000) / planned.shots
    estimates = corrected(1.0, noisy.survival, 1 << noisy.qubits) - (1.0 - shares) / noisy.survival
    assert estimates.std() > 1.2 * planned.standard_error
    assert abs(shares.mean() - 0.5 - noisy.bias) < 1e-3  # what the plain share is wrong by was predicted
    assert noisy.bias < -0.05


def test_without_noise_the_shots_are_the_textbook_ones() -> None:
    by_family = {
        p.family: p for p in all_of(plan_overlap(16, 300, LIMITS, FREE, standard_error=0.01, families=FAMILIES))
    }
    assert by_family["merged"].shots == by_family["unary"].shots == 2_500
    assert by_family["multiplexed"].shots == pytest.approx(0.5 * (16 - 0.5) / 0.01**2, abs=1)
    assert by_family["merged"].circuits == 16
    assert by_family["multiplexed"].circuits == 1


def test_a_fee_for_each_task_favours_one_circuit_and_a_fee_for_gates_does_not() -> None:
    coarse = error_of_half_width(0.4, 0.95)
    task = plan_overlap(16, 16, LIMITS, BRAKET_FORTE, standard_error=coarse, families=FAMILIES)
    assert task.chosen.cost_usd == min(p.cost_usd for p in all_of(task))
    fine = plan_overlap(16, 16, LIMITS, AZURE, standard_error=0.005, families=("merged", "multiplexed"))
    assert fine.chosen.family == "merged"
    assert "cheapest" in fine.why
    floor = plan_overlap(16, 16, LIMITS, AZURE, standard_error=0.2, families=("merged", "multiplexed"))
    assert floor.chosen.family == "multiplexed"  # sixteen minimum prices against one


def test_limits_are_kept_and_jobs_are_split() -> None:
    small = BackendLimits(max_qubits=5, max_circuits=10, max_gates=2_000, max_shots=1_000)
    plan = plan_overlap(20, 300, small, FREE, standard_error=0.01, families=FAMILIES)
    assert plan.chosen.family == "merged"
    assert (plan.chosen.circuits_per_job, plan.chosen.shots_per_job, plan.chosen.jobs) == (10, 834, 6)
    assert {p.family: p.note for p in plan.alternatives} == {
        "multiplexed": "needs 10 qubits, and the backend has 5",
        "unary": "needs 21 qubits, and the backend has 5",
    }
    with pytest.raises(InvalidCircuit, match="no circuit family fits: merged: needs 7 qubits"):
        plan_overlap(100, 300, small, FREE, standard_error=0.01)
    drowned = GateFidelities(two_qubit=0.5)
    with pytest.raises(InvalidCircuit, match="noise or the error asked for"):
        plan_overlap(60, 300, LIMITS, FREE, standard_error=0.01, fidelities=drowned)


def test_noise_favours_the_family_with_fewer_two_qubit_gates() -> None:
    plan = plan_overlap(
        6, 300, LIMITS, BRAKET_FORTE, standard_error=0.02, fidelities=GateFidelities(1.0, 0.9), families=FAMILIES
    )
    survivals = {p.family: p.survival for p in all_of(plan)}
    assert plan.chosen.family == max(survivals, key=lambda family: survivals[family])


def test_a_plan_is_json_and_names_its_reason() -> None:
    plan = plan_overlap(8, 100, LIMITS, BRAKET_FORTE, standard_error=0.02, fidelities=FORTE, families=FAMILIES)
    view = json.loads(json.dumps(plan.view()))
    assert view["chosen"]["family"] == plan.chosen.family
    assert len(view["alternatives"]) == 2
    assert view["why"].startswith(plan.chosen.family)
    only = plan_overlap(8, 100, LIMITS, BRAKET_FORTE, standard_error=0.02)
    assert only.why == "merged is the only family on offer that fits the backend"


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="count >= 1"):
        plan_overlap(0, 10, LIMITS, FREE, standard_error=0.1)
    with pytest.raises(ValueError, match="gate fidelities"):
        GateFidelities(two_qubit=0.0)
    assert planner.DEFAULT_FAMILIES == ("merged",)
