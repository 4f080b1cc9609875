"""Probabilities from the provider to counts, and the checks that a wrong result must not pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.errors import JobFailed
from quantum_db.ionq.results import distributions, rounded_counts


def test_circuits_keep_the_order_of_the_keys() -> None:
    found = distributions({"9": {"0": 1.0}, "1": {"2": 0.25, "3": 0.75}}, 2, 2, "job")
    assert [outcomes.tolist() for outcomes, _ in found] == [[0], [2, 3]]
    assert found[1][1].tolist() == [0.25, 0.75]


def test_one_circuit_comes_bare_or_under_its_child() -> None:
    assert distributions({"1": 1.0}, 1, 1, "job")[0][0].tolist() == [1]
    assert distributions({"child": {"1": 1}}, 1, 1, "job")[0][0].tolist() == [1]


@pytest.mark.parametrize(
    ("found", "what"),
    [
        ([], "not a JSON object"),
        ({}, "sum to 0"),
        ({"0": 0.5, "1": 0.4999}, "sum to 0.9999"),
        ({"0": 0.5, "1": 0.500002}, "sum to 1.000002"),
        ({"0": 1.5, "1": -0.5}, "one is negative"),
        ({"0": float("nan")}, "sum to nan"),
        ({"4": 1.0}, "an outcome that 2 qubits do not have"),
        ({"-1": 1.0}, "an outcome that 2 qubits do not have"),
        ({"1": 0.5, "01": 0.5}, "an outcome twice"),
        ({"x": 1.0}, "not a distribution"),
        ({str(1 << 70): 1.0}, "not a distribution"),
        ({"0": None}, "not a distribution"),
        ({"0": 0.5, "child": {"0": 1.0}}, "not a distribution"),
        ({"a": {"0": 1.0}, "b": {"0": 1.0}}, "results of 2 circuits; 1 were submitted"),
    ],
)
def test_what_is_not_a_result_is_caught(found: Any, what: str) -> None:
    with pytest.raises(JobFailed, match=what):
        distributions(found, 1, 2, "job")


def test_a_missing_circuit_is_caught() -> None:
    with pytest.raises(JobFailed, match="results of 1 circuits; 2 were submitted"):
        distributions({"a": {"0": 1.0}}, 2, 2, "job")


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=40).filter(any))
def test_frequencies_come_back_as_the_counts_they_were(counts: list[int]) -> None:
    shots = sum(counts)
    found = rounded_counts(np.arange(len(counts)), np.array(counts) / shots, shots)
    assert found == {outcome: count for outcome, count in enumerate(counts) if count}


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=40), st.integers(1, 10_000))
def test_counts_sum_to_the_shots(weights: list[float], shots: int) -> None:
    probabilities = np.array(weights) / sum(weights)
    found = rounded_counts(np.arange(len(weights)), probabilities, shots)
    assert sum(found.values()) == shots
    assert all(abs(found.get(index, 0) - p * shots) <= 1.0 for index, p in enumerate(probabilities))
