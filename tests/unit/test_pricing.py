"""The published prices, by hand."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.errors import InvalidSettings
from quantum_db.ionq.pricing import AZURE, AZURE_MITIGATED, BRAKET_ARIA, BRAKET_FORTE, FREE, PRICE_MODELS, price_model


def test_a_thousand_shots_on_forte_are_80_dollars_30() -> None:
    assert BRAKET_FORTE.cost_usd(1, 1000, 22, 20) == pytest.approx(80.30)


def test_a_thousand_shots_on_aria_are_30_dollars_30() -> None:
    assert BRAKET_ARIA.cost_usd(1, 1000, 22, 20) == pytest.approx(30.30)


def test_each_circuit_of_a_job_is_a_task() -> None:
    assert BRAKET_FORTE.cost_usd(7, 100, 0, 0) == pytest.approx(7 * BRAKET_FORTE.cost_usd(1, 100, 0, 0))


def test_gate_shots_above_the_minimum() -> None:
    # 22 one-qubit and 20 two-qubit gates: 0.02434 USD a shot.
    assert AZURE.cost_usd(1, 10_000, 22, 20) == pytest.approx(243.40)
    assert AZURE_MITIGATED.cost_usd(1, 10_000, 22, 20) == pytest.approx(243.40)


@pytest.mark.parametrize(("model", "minimum_usd"), [(AZURE, 12.4166), (AZURE_MITIGATED, 97.50)])
def test_the_minimum_holds_for_each_circuit(model, minimum_usd) -> None:
    assert model.cost_usd(1, 1, 1, 1) == pytest.approx(minimum_usd)
    assert model.cost_usd(3, 1, 1, 1) == pytest.approx(3 * minimum_usd)


def test_free_is_free() -> None:
    assert FREE.cost_usd(5000, 10_000, 1000, 1000) == 0.0


counts = st.integers(0, 5000)


@given(st.sampled_from(sorted(PRICE_MODELS)), counts, counts, counts, counts)
def test_more_of_anything_never_costs_less(name, circuits, shots, one, two) -> None:
    model = PRICE_MODELS[name]
    cost_usd = model.cost_usd(circuits, shots, one, two)
    assert cost_usd >= 0.0
    assert model.cost_usd(circuits + 1, shots, one, two) >= cost_usd
    assert model.cost_usd(circuits, shots + 1, one, two) >= cost_usd
    assert model.cost_usd(circuits, shots, one + 1, two + 1) >= cost_usd


def test_every_model_names_its_source_and_travels() -> None:
    assert list(PRICE_MODELS) == ["free", "braket-forte", "braket-aria", "azure", "azure-mitigated"]
    for name, model in PRICE_MODELS.items():
        assert model.name == name
        assert model.source
        assert pickle.loads(pickle.dumps(model)) == model


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidSettings, match="azure-mitigated"):
        price_model("azur")


def test_negative_counts_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="not negative"):
        AZURE.cost_usd(1, -1, 0, 0)
