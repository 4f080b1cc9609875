"""Probabilities from the provider to counts, and the checks that a wrong result must not pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantum_db.errors import JobFailed
from quantum_db.ionq.results import (
    distributions,
    in_agreed_order,
    in_order_of_names,
    rounded_counts,
    rows_by_child,
)


def test_rows_keep_the_order_of_the_keys_and_each_has_its_own_qubits() -> None:
    rows = rows_by_child({"9": {"0": 1.0}, "1": {"2": 0.25, "3": 0.75}}, 2, "job")
    assert list(rows) == ["9", "1"]
    found = distributions(list(rows.values()), [1, 2], "job")
    assert [outcomes.tolist() for outcomes, _ in found] == [[0], [2, 3]]
    assert found[1][1].tolist() == [0.25, 0.75]
    with pytest.raises(JobFailed, match="circuit 1 of job job has an outcome that 1 qubits do not have"):
        distributions(list(rows.values()), [2, 1], "job")


def test_one_circuit_comes_bare_or_under_its_child() -> None:
    assert rows_by_child({"1": 1.0}, 1, "job") == {"job": {"1": 1.0}}
    assert rows_by_child({"child": {"1": 1}}, 1, "job") == {"child": {"1": 1}}


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
        distributions(list(rows_by_child(found, 1, "job").values()), [2], "job")


def test_a_missing_circuit_is_caught() -> None:
    with pytest.raises(JobFailed, match="results of 1 circuits; 2 were submitted"):
        rows_by_child({"a": {"0": 1.0}}, 2, "job")


@given(st.permutations(range(8)), st.permutations(range(8)), st.permutations(range(8)))
def test_names_give_the_order_whatever_comes_in_which_order(keys: Any, listed: Any, ids: Any) -> None:
    """Circuit number n has the child ``c<ids[n]>``."""
    rows = {f"c{ids[number]}": {str(number): 1.0} for number in keys}
    children = [{"id": f"c{ids[number]}", "name": str(number)} for number in listed]
    ordered = in_order_of_names(rows, children, "job")
    assert ordered == [{str(number): 1.0} for number in range(8)]
    assert in_agreed_order(rows, list(rows)) == list(rows.values())
    for other in ([f"c{place}" for place in ids], None, list(rows)[:-1], "c0"):
        if other != list(rows):
            assert in_agreed_order(rows, other) is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["0", "1", "2", None])), max_size=5))
def test_children_are_matched_one_to_one_or_not_at_all(entries: list[tuple[str, str | None]]) -> None:
    rows = {"a": {"1": 1.0}, "b": {"2": 1.0}, "c": {"3": 1.0}}
    children = [{"id": child, "name": name} for child, name in entries]
    if sorted(child for child, _ in entries) == ["a", "b", "c"] and {name for _, name in entries} == {"0", "1", "2"}:
        child_of = {name: child for child, name in entries}
        assert in_order_of_names(rows, children, "job") == [rows[child_of[name]] for name in ("0", "1", "2")]
    else:
        with pytest.raises(JobFailed, match="cannot be matched to its circuits one to one"):
            in_order_of_names(rows, children, "job")


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
