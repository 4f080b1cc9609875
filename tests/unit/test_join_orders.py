"""Join orders: their cost, exact searches against brute force and each other, improvement, the deadline."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantum_db.errors import InvalidRequest
from sql_synthesizer.joins import search
from sql_synthesizer.joins.graph import JoinGraph, JoinTree, c_out, joinable, joins, leaves, left_deep, log_c_out
from sql_synthesizer.joins.search import order_joins
from sql_synthesizer.joins.small import connected_pairs, order_small


def graph_of(n: int, extra: int, seed: int) -> JoinGraph:
    """A random tree and ``extra`` more predicates; rows of 1 to 10^5."""
    rng = np.random.default_rng(seed)
    rows = rng.uniform(0.0, math.log(1e5), n)
    between = np.zeros((n, n))
    edges = {(int(rng.integers(i)), i) for i in range(1, n)}
    edges |= {(int(i), int(j)) for i, j in np.sort(rng.integers(n, size=(extra, 2)), axis=1) if i != j}
    for i, j in edges:
        between[i, j] = between[j, i] = -rng.uniform(0.1, 8.0)
    return JoinGraph(tuple(f"r{i}" for i in range(n)), rows, between)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    search.warm_up()


graphs = st.builds(graph_of, st.integers(2, 6), st.integers(0, 6), st.integers(0, 10**6))


def all_trees(relations: frozenset[int]) -> Iterator[JoinTree]:
    if len(relations) == 1:
        yield from relations
        return
    first, *others = sorted(relations)
    for size in range(len(others)):
        for rest in itertools.combinations(others, size):
            left = frozenset((first, *rest))
            yield from itertools.product(all_trees(left), all_trees(relations - left))


def crosses(graph: JoinGraph, tree: JoinTree) -> bool:
    allowed = joinable(graph)
    return any(not allowed[np.ix_(list(leaves(a)), list(leaves(b)))].any() for a, b in joins(tree))


def plain_dp(graph: JoinGraph) -> float:
    """C_out by a dynamic program that shares nothing with the product: sets are frozensets, rows are multiplied out."""
    allowed = joinable(graph)
    rows = np.exp(graph.log_rows)
    kept = np.exp(graph.log_selectivity)
    best: dict[frozenset[int], float] = {frozenset([i]): 0.0 for i in range(graph.size)}
    for size in range(2, graph.size + 1):
        for members in itertools.combinations(range(graph.size), size):
            whole = frozenset(members)
            product = math.prod(rows[i] for i in members)
            product *= math.prod(kept[i, j] for i, j in itertools.combinations(members, 2))
            for half in range(1, size):
                for part in map(frozenset, itertools.combinations(members, half)):
                    other = whole - part
                    if part in best and other in best and any(allowed[i, j] for i in part for j in other):
                        cost = best[part] + best[other] + product
                        best[whole] = min(best.get(whole, math.inf), cost)
    return best[frozenset(range(graph.size))]


def test_c_out_counts_every_join_and_the_root() -> None:
    between = np.log(np.array([[1.0, 0.1, 1.0], [0.1, 1.0, 0.01], [1.0, 0.01, 1.0]]))
    graph = JoinGraph(("a", "b", "c"), np.log([10.0, 100.0, 1000.0]), between)
    assert c_out(graph, ((0, 1), 2)) == pytest.approx(100 + 1000)
    assert c_out(graph, (0, (2, 1))) == pytest.approx(1000 + 1000)
    assert c_out(graph, left_deep([0, 2, 1])) == pytest.approx(10_000 + 1000)
    assert graph.edges() == [(0, 1), (1, 2)]


def test_a_tree_that_lacks_or_repeats_a_relation_is_refused() -> None:
    graph = graph_of(3, 0, 1)
    for tree in ((0, 1), ((0, 1), 1), ((0, 1), (1, 2))):
        with pytest.raises(InvalidRequest, match="once"):
            log_c_out(graph, tree)


@pytest.mark.parametrize(
    ("names", "rows", "between", "field"),
    [
        (("a", "a"), [1.0, 1.0], np.zeros((2, 2)), "names"),
        (("a", "b"), [1.0], np.zeros((2, 2)), "log_rows"),
        (("a", "b"), [1.0, math.nan], np.zeros((2, 2)), "log_rows"),
        (("a", "b"), [1.0, 1.0], np.array([[0.0, 1.0], [2.0, 0.0]]), "log_selectivity"),
        (("a", "b"), [1.0, 1.0], np.eye(2), "log_selectivity"),
    ],
)
def test_a_bad_graph_is_refused(names: tuple[str, ...], rows: list[float], between: np.ndarray, field: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        JoinGraph(names, np.array(rows), between)


@settings(max_examples=25, deadline=None)
@given(graphs)
def test_the_plain_search_is_exact_by_brute_force_over_all_trees(graph: JoinGraph) -> None:
    trees = all_trees(frozenset(range(graph.size)))
    best = min(c_out(graph, tree) for tree in trees if not crosses(graph, tree))
    found = order_small(graph)
    assert found is not None
    assert math.exp(found.log_cost) == pytest.approx(best)
    assert not crosses(graph, found.tree)


@settings(max_examples=25, deadline=None)
@given(graphs)
def test_cross_products_are_tried_where_they_are_allowed(graph: JoinGraph) -> None:
    best = min(c_out(graph, tree) for tree in all_trees(frozenset(range(graph.size))))
    found = order_joins(graph, seconds=5.0, cross_products=True)
    assert found.proved
    assert math.exp(found.log_cost) == pytest.approx(best)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 8), st.integers(0, 10), st.integers(0, 10**6))
def test_the_compiled_search_agrees_with_an_independent_program(n: int, extra: int, seed: int) -> None:
    graph = graph_of(n, extra, seed)
    found = order_joins(graph, seconds=5.0)
    assert found.proved
    assert not crosses(graph, found.tree)
    assert math.exp(found.log_cost) == pytest.approx(plain_dp(graph))


@settings(max_examples=25, deadline=None)
@given(graphs, st.integers(0, 10**6))
def test_a_chain_is_the_best_by_what_look_ups_fetch(graph: JoinGraph, seed: int) -> None:
    fetched = np.random.default_rng(seed).uniform(1.0, 50.0, graph.size)

    def cost(order: tuple[int, ...]) -> float:
        prefixes = [order[: k + 1] for k in range(1, graph.size)]
        return sum(math.exp(graph.log_cardinality(prefix)) * fetched[prefix[-1]] for prefix in prefixes)

    orders = [order for order in itertools.permutations(range(graph.size)) if not crosses(graph, left_deep(order))]
    found = order_small(replace(graph, fetched=tuple(fetched)), chain=True)
    assert found is not None
    assert cost(tuple(leaves(found.tree))) == pytest.approx(min(map(cost, orders)))


def test_of_equal_columns_as_many_pairs_count_as_imply_the_others() -> None:
    kept = np.log(np.array([[1.0, 0.1, 0.2], [0.1, 1.0, 0.3], [0.2, 0.3, 1.0]]))
    graph = JoinGraph(("a", "b", "c"), np.log([10.0, 10.0, 10.0]), kept, ((0, 1, 2),))
    assert math.exp(graph.log_cardinality([0, 1, 2])) == pytest.approx(1000 * 0.1 * 0.2)
    assert math.exp(graph.log_cardinality([1, 2])) == pytest.approx(100 * 0.3)
    plain = graph.without_classes()
    assert plain.edges() == [(0, 1), (0, 2)]
    assert plain.log_cardinality([0, 1, 2]) == pytest.approx(graph.log_cardinality([0, 1, 2]))


def test_a_planted_fault_in_the_exact_search_is_caught_by_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    def shallow(neighbours: list[int]) -> Iterator[tuple[int, int]]:
        return (pair for pair in connected_pairs(neighbours) if any(part.bit_count() == 1 for part in pair))

    monkeypatch.setattr("sql_synthesizer.joins.small.connected_pairs", shallow)
    found = [(order_small(graph), plain_dp(graph)) for graph in (graph_of(6, 0, seed) for seed in range(40))]
    assert any(order is not None and math.exp(order.log_cost) > best * 1.001 for order, best in found)


def test_pairs_of_connected_sets_come_once_and_parts_first() -> None:
    chain = [0b0010, 0b0101, 0b1010, 0b0100]
    pairs = list(connected_pairs(chain))
    assert len(pairs) == (4**3 - 4) // 6  # Ono and Lohman's count for chains
    known = {1, 2, 4, 8}
    for one, other in pairs:
        assert {one, other} <= known
        known.add(one | other)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)


def test_a_graph_with_too_many_pairs_is_left_to_the_compiled_search() -> None:
    assert order_small(graph_of(12, 60, 3)) is None
    assert order_small(graph_of(5, 4, 3), pairs=3) is None


@pytest.mark.parametrize("n", [1, 2])
def test_nothing_is_searched_where_there_is_one_tree(n: int) -> None:
    found = order_joins(graph_of(n, 0, 1))
    assert (found.proved, list(leaves(found.tree))) == (True, list(range(n)))


def test_parts_that_hang_together_by_nothing_are_joined_all_the_same() -> None:
    between = np.zeros((4, 4))
    between[0, 1] = between[1, 0] = between[2, 3] = between[3, 2] = -2.0
    graph = JoinGraph(tuple("abcd"), np.full(4, 3.0), between)
    small, compiled = order_small(graph), order_joins(graph)
    assert small is not None
    assert small.log_cost == pytest.approx(compiled.log_cost)
    assert set(map(frozenset, map(leaves, small.tree))) == {frozenset({0, 1}), frozenset({2, 3})}  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "extra"), [(24, 0), (40, 200)])
def test_beyond_proof_annealing_never_returns_worse_than_the_seeds(n: int, extra: int) -> None:
    graph = graph_of(n, extra, 5)
    quick = order_joins(graph, seconds=0.0)
    longer = order_joins(graph, seconds=0.3)
    assert not longer.proved
    assert longer.log_cost <= quick.log_cost + 1e-9
    assert not crosses(graph, longer.tree)


def test_no_time_at_all_gives_the_seeds() -> None:
    found = order_joins(graph_of(21, 2_000, 4), seconds=-1.0)
    assert sorted(leaves(found.tree)) == list(range(21))


def test_rows_beyond_the_range_of_a_float_are_ordered_too() -> None:
    n = 100
    between = np.zeros((n, n))
    for i in range(1, n):
        between[i - 1, i] = between[i, i - 1] = -0.5
    graph = JoinGraph(tuple(f"r{i}" for i in range(n)), np.full(n, 11.0), between)
    assert c_out(graph, left_deep(range(n))) == math.inf
    found = order_joins(graph, seconds=0.2)
    assert found.log_cost == pytest.approx(n * 11.0 - 0.5 * (n - 1), rel=1e-3)


def test_the_search_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=0.01)
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    order_joins(graph_of(30, 100, 2), seconds=1.0)
    assert next(ticks) < 2.0
