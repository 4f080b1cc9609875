"""The prefix QUBO: exact against direct evaluation, penalties against all bits, annealing against all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidRequest
from sql_synthesizer.joins.graph import JoinGraph, left_deep, log_c_out
from sql_synthesizer.quantum import prefixes
from sql_synthesizer.quantum.prefix_qubo import PrefixQubo, anneal_prefixes, greedy_order, log_product

THERMAL = ThermalSchedule(chains=4, sweeps=40, start=0.5, end=0.01)
RING = QuantumSchedule(restarts=2, slices=6, sweeps=40)


def graph(seed: int, relations: int, density: float = 0.5) -> JoinGraph:
    rng = np.random.default_rng(seed)
    selectivity = np.triu(rng.uniform(-12.0, -1.0, (relations, relations)), 1)
    selectivity *= rng.random((relations, relations)) < density
    rows = rng.uniform(2.0, 12.0, relations)
    return JoinGraph(tuple(f"r{i}" for i in range(relations)), rows, selectivity + selectivity.T)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 9))
def test_the_qubo_is_the_sum_of_log_cardinalities(seed: int, relations: int) -> None:
    one = graph(seed, relations)
    qubo = PrefixQubo.of(one)
    order = np.random.default_rng(seed).permutation(relations).tolist()
    bits = qubo.bits(order)
    assert qubo.value(bits) == pytest.approx(log_product(one, order), abs=1e-9)
    read = qubo.order(bits)
    assert read is not None
    assert (sorted(read[:2]), read[2:]) == (sorted(order[:2]), tuple(order[2:]))


def test_with_penalties_the_least_of_all_bits_is_the_best_order() -> None:
    """All 2^8 assignments for four relations; without the penalties the least is of no order."""
    for seed in range(10):
        one = graph(seed, 4)
        qubo = PrefixQubo.of(one)
        everything = [np.array(bits) for bits in itertools.product((False, True), repeat=8)]
        best = min(everything, key=qubo.penalised().value)
        order = qubo.order(best)
        assert order is not None
        least = min(log_product(one, list(other)) for other in itertools.permutations(range(4)))
        assert qubo.value(best) == pytest.approx(least)
    assert qubo.order(min(everything, key=qubo.value)) is None


def test_bits_of_no_order_are_not_read_as_one() -> None:
    qubo = PrefixQubo.of(graph(0, 5))
    bits = qubo.bits([2, 0, 1, 4, 3])
    for place in range(len(bits)):
        planted = bits.copy()
        planted[place] = not planted[place]
        assert qubo.order(planted) is None
    rows = bits.reshape(3, 5)[[1, 0, 2]]
    assert qubo.order(rows.ravel()) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 8))
def test_the_change_by_an_exchange_is_the_difference(seed: int, relations: int) -> None:
    one = graph(seed, relations)
    rng = np.random.default_rng(seed)
    order = rng.permutation(relations)
    i, j = sorted(rng.choice(relations, 2, replace=False).tolist())
    other = order.copy()
    other[[i, j]] = other[[j, i]]
    expected = log_product(one, other.tolist()) - log_product(one, order.tolist())
    found = prefixes.exchange_change(one.log_rows, one.log_selectivity, order, i, j)
    assert found == pytest.approx(expected, abs=1e-9)
    qubo, neighbour = PrefixQubo.of(one), rng.permutation(relations)
    agree = [int((qubo.bits(neighbour.tolist()) == qubo.bits(o.tolist())).sum()) for o in (order, other)]
    places = np.argsort(neighbour)
    more = prefixes._agreement(places, int(order[i]), int(order[j]), i, j)
    assert more == agree[1] - agree[0]


@pytest.mark.parametrize("schedule", [THERMAL, RING])
def test_annealing_finds_the_best_of_all_orders(schedule: ThermalSchedule | QuantumSchedule) -> None:
    for seed in range(4):
        one = graph(seed, 6)
        found = anneal_prefixes(one, np.random.default_rng(seed), schedule)
        least = min(log_product(one, list(order)) for order in itertools.permutations(range(6)) if order[0] < order[1])
        assert found.log_product == pytest.approx(least, abs=1e-9)
        assert found.log_c_out == pytest.approx(log_c_out(one, left_deep(found.order)))


def test_it_is_never_above_greedy_and_equal_generators_agree() -> None:
    one = graph(11, 25, density=0.1)
    quick = ThermalSchedule(chains=1, sweeps=0, start=0.5, end=0.1)
    first, second = (anneal_prefixes(one, np.random.default_rng(3), quick) for _ in range(2))
    assert first.order == second.order
    assert first.log_product <= log_product(one, greedy_order(one).tolist()) + 1e-9
    assert sorted(first.order) == list(range(25))
    assert math.isfinite(first.log_c_out)


def test_two_relations_leave_nothing_to_choose() -> None:
    with pytest.raises(InvalidRequest, match="from 3 to"):
        anneal_prefixes(graph(0, 2), np.random.default_rng(0))
    with pytest.raises(InvalidRequest, match="from 3 to"):
        PrefixQubo.of(graph(0, 2))
