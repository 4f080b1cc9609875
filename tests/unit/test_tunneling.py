"""Selections: against brute force, against greedy, and the samplers against the laws they claim to draw from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quantum_db import annealing, tunneling
from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.errors import InvalidRequest
from quantum_db.tunneling import Selection, TunnelingResult

Floats = NDArray[np.float64]
QUICK = QuantumSchedule(restarts=2, slices=4, sweeps=4)
HOT = 1e6


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def brute_force(r: Floats, s: Floats, k: int, mu: float) -> float:
    def value(chosen: tuple[int, ...]) -> float:
        pairs = sum(float(s[i, j]) for i, j in itertools.combinations(chosen, 2))
        return sum(float(r[i]) for i in chosen) - mu * pairs

    return max(value(chosen) for chosen in itertools.combinations(range(len(r)), k))


def vectors_instance(seed: int, candidates: int, dimension: int = 12) -> tuple[Floats, Floats]:
    vectors = rng(seed).normal(size=(candidates + 1, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return ((1 + vectors[1:] @ vectors[0]) / 2) ** 2, (vectors[1:] @ vectors[1:].T) ** 2


def two_valleys(k: int) -> tuple[Floats, Floats]:
    """Group A (first k) is better as a whole; group B has the better single members, and A and B repel each other."""
    s = np.ones((2 * k, 2 * k))
    s[:k, :k], s[k:, k:] = 0.0, 0.15
    return np.concatenate([np.full(k, 0.95), np.full(k, 1.0)]), s


@st.composite
def instances(draw: st.DrawFn, largest: int = 8) -> tuple[Floats, Floats, int, float]:
    count = draw(st.integers(1, largest))
    number = st.floats(-2, 2, allow_subnormal=False)
    r = np.array(draw(st.lists(number, min_size=count, max_size=count)))
    s = np.zeros((count, count))
    upper = np.triu_indices(count, 1)
    s[upper] = draw(st.lists(number, min_size=len(upper[0]), max_size=len(upper[0])))
    return r, s + s.T, draw(st.integers(1, count)), draw(st.floats(0, 3, allow_subnormal=False))


SOLVERS: dict[str, Callable[[Floats, Floats, int, float], Selection]] = {
    "greedy": tunneling.greedy,
    "exact": tunneling.exact,
    "thermal": lambda r, s, k, mu: tunneling.simulated_annealing(r, s, k, mu, rng()),
    "quantum": lambda r, s, k, mu: tunneling.simulated_quantum_annealing(r, s, k, mu, rng()),
    "tunnel": lambda r, s, k, mu: tunneling.tunnel(r, s, k, mu, rng()).selection,
}
every_solver = pytest.mark.parametrize("solve", SOLVERS.values(), ids=SOLVERS)


class TestObjective:
    def test_counts_each_pair_once_and_never_the_diagonal(self) -> None:
        s = [[math.nan, 0.5, 0.25], [0.5, 9.0, 1.0], [0.25, 1.0, math.inf]]
        assert tunneling.objective([1.0, 2.0, 4.0], s, [2, 0, 1], 2.0) == pytest.approx(7.0 - 2.0 * 1.75)
        assert tunneling.objective([1.0, 2.0, 4.0], s, [1], 2.0) == 2.0
        assert tunneling.objective([1.0, 2.0, 4.0], s, [], 2.0) == 0.0

    @pytest.mark.parametrize("chosen", [[0, 3], [0, -1], [0, 0], [0, 1.5]])
    def test_refuses_what_is_no_selection(self, chosen: Any) -> None:
        with pytest.raises(InvalidRequest) as caught:
            tunneling.objective([1.0, 2.0, 4.0], np.zeros((3, 3)), chosen, 1.0)
        assert caught.value.errors[0].path == "chosen[1]"


class TestExact:
    @given(instances())
    @settings(max_examples=100, deadline=None)
    def test_is_the_maximum_over_all_selections(self, instance: tuple[Floats, Floats, int, float]) -> None:
        r, s, k, mu = instance
        found = tunneling.exact(r, s, k, mu)
        assert found.value == pytest.approx(brute_force(r, s, k, mu), abs=1e-9)
        assert found.value == pytest.approx(tunneling.objective(r, s, found.indices, mu), abs=1e-9)
        assert len(set(found.indices)) == k

    @pytest.mark.parametrize("k", [2, 5, 9, 12])
    def test_twelve_candidates(self, k: int) -> None:
        r, s = vectors_instance(k, 13)
        assert tunneling.exact(r, s, k, 0.8).value == pytest.approx(brute_force(r, s, k, 0.8), abs=1e-12)

    def test_does_not_lean_on_its_incumbent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With the worst possible start the tree alone must find the maximum."""
        r, s = vectors_instance(3, 12)
        monkeypatch.setattr(tunneling, "anneal_thermal", lambda *_: np.argsort(r)[:4])
        assert tunneling.exact(r, s, 4, 1.0).value == pytest.approx(brute_force(r, s, 4, 1.0), abs=1e-12)

    def test_splits_wide_levels_into_blocks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        r, s = vectors_instance(4, 14)
        whole = tunneling.exact(r, s, 6, 2.0)
        monkeypatch.setattr(tunneling, "_BLOCK", 3)
        assert tunneling.exact(r, s, 6, 2.0) == whole

    def test_refuses_what_it_can_not_finish(self) -> None:
        with pytest.raises(InvalidRequest, match="at most 40") as caught:
            tunneling.exact(*vectors_instance(0, 41), 5, 0.5)
        assert caught.value.errors[0].path == "relevance"
        with pytest.raises(InvalidRequest, match="no proof within 10") as caught:
            tunneling.exact(*vectors_instance(0, 30), 10, 1.0, max_nodes=10)
        assert caught.value.errors[0].path == "max_nodes"


class TestTunnel:
    @given(instances(), st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None)
    def test_is_never_below_greedy_nor_above_the_maximum(
        self, instance: tuple[Floats, Floats, int, float], seed: int
    ) -> None:
        r, s, k, mu = instance
        result = tunneling.tunnel(r, s, k, mu, rng(seed), schedule=QUICK)
        assert result.selection.value >= result.greedy.value
        assert result.selection.value <= brute_force(r, s, k, mu) + 1e-9
        assert result.gain == result.selection.value - result.greedy.value
        assert len(set(result.selection.indices)) == k
        assert set(result.missed) == set(result.selection.indices) - set(result.greedy.indices)
        assert set(result.dropped) == set(result.greedy.indices) - set(result.selection.indices)
        assert bool(result.missed) == (result.gain > 0)

    @pytest.mark.parametrize("k", [4, 8])
    def test_leaves_a_selection_where_greedy_is_stuck(self, k: int) -> None:
        r, s = two_valleys(k)
        result = tunneling.tunnel(r, s, k, 1.0, rng())
        assert result.greedy.indices == tuple(range(k, 2 * k))
        # Stuck: exchanging any number of members short of all makes greedy's choice worse.
        for kept in range(1, k):
            mixed = [*range(k - kept), *range(k, k + kept)]
            assert tunneling.objective(r, s, mixed, 1.0) < result.greedy.value
        assert result.selection.indices == tuple(range(k))
        assert result.selection.solver == "simulated quantum annealing"
        assert result.selection.value == pytest.approx(tunneling.exact(r, s, k, 1.0).value)
        assert result.missed == tuple(range(k))
        assert result.dropped == result.greedy.indices
        assert result.relative_gain == pytest.approx(result.gain / abs(result.greedy.value))

    def test_reaches_proved_optima_and_beats_greedy_where_it_can_be_beaten(self) -> None:
        beaten = 0
        for seed in range(8):
            r, s = vectors_instance(seed, 30)
            result = tunneling.tunnel(r, s, 10, 0.7, rng(seed))
            best = tunneling.exact(r, s, 10, 0.7).value
            assert result.selection.value == pytest.approx(best, abs=1e-9)
            beaten += result.greedy.value < best - 1e-9
        assert beaten >= 3  # else the instances show nothing

    def test_beats_greedy_on_two_hundred_candidates(self) -> None:
        r, s = vectors_instance(1, 200)
        assert tunneling.tunnel(r, s, 10, 1.0, rng()).gain > 0

    @pytest.mark.parametrize(("k", "mu"), [(1, 5.0), (6, 5.0), (3, 0.0)])
    def test_anneals_nothing_where_greedy_is_the_maximum(
        self, k: int, mu: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(tunneling, "anneal_quantum")
        r, s = vectors_instance(2, 6)
        result = tunneling.tunnel(r, s, k, mu, rng())
        assert result == TunnelingResult(result.greedy, result.greedy, 0.0, 0.0, (), ())
        assert result.greedy.value == pytest.approx(brute_force(r, s, k, mu))

    def test_says_nothing_of_a_ratio_to_zero(self) -> None:
        s = two_valleys(2)[1]
        s[2, 3] = s[3, 2] = 0.75
        result = tunneling.tunnel([0.125, 0.125, 0.375, 0.375], s, 2, 1.0, rng())
        assert result.greedy.value == 0.0
        assert result.gain > 0
        assert result.relative_gain is None


class TestEverySolver:
    @every_solver
    @pytest.mark.parametrize("k", [1, 2, 7, 19, 20])
    def test_chooses_k_in_order_of_relevance(self, solve: Any, k: int) -> None:
        r, s = vectors_instance(k, 20)
        found = solve(r, s, k, 0.6)
        assert len(set(found.indices)) == len(found.indices) == k
        assert list(found.indices) == sorted(found.indices, key=lambda i: -r[i])
        assert found.value == pytest.approx(tunneling.objective(r, s, found.indices, 0.6), abs=1e-12)

    @every_solver
    def test_one_candidate(self, solve: Any) -> None:
        assert solve([0.5], [[1.0]], 1, 1.0).indices == (0,)

    @every_solver
    def test_without_diversity_is_plain_top_k(self, solve: Any) -> None:
        r, s = vectors_instance(5, 20)
        assert solve(r, s, 6, 0.0).indices == tuple(np.argsort(-r)[:6].tolist())

    @every_solver
    def test_identical_similarities_leave_the_order_to_relevance(self, solve: Any) -> None:
        r, _ = vectors_instance(6, 20)
        found = solve(r, np.full((20, 20), 0.8), 6, 0.5)
        assert found.indices == tuple(np.argsort(-r)[:6].tolist())
        assert found.value == pytest.approx(r[list(found.indices)].sum() - 0.5 * 0.8 * 15)

    @every_solver
    def test_a_flat_landscape(self, solve: Any) -> None:
        found = solve(np.full(12, 0.1), np.full((12, 12), 0.1), 5, 0.1)
        assert len(set(found.indices)) == 5
        assert found.value == pytest.approx(0.5 - 0.1)

    @every_solver
    @pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e90])
    def test_only_the_ratios_of_numbers_matter(self, solve: Any, scale: float) -> None:
        r, s = vectors_instance(7, 16)
        assert solve(r * scale, s * scale, 5, 0.5).indices == solve(r, s, 5, 0.5).indices

    @every_solver
    def test_leaves_its_arguments_alone(self, solve: Any) -> None:
        r, s = vectors_instance(8, 16)
        r.setflags(write=False)
        s.setflags(write=False)
        copies = r.copy(), s.copy()
        solve(r, s, 5, 0.5)
        assert (r == copies[0]).all()
        assert (s == copies[1]).all()

    @every_solver
    def test_takes_lists_and_float32_products(self, solve: Any) -> None:
        r, s = vectors_instance(9, 16)
        rounded = s.astype(np.float32)
        rounded[2, 3] = np.nextafter(rounded[3, 2], np.float32(2))
        assert solve(r.tolist(), rounded.tolist(), 5, 0.5).indices == solve(r, s, 5, 0.5).indices

    def test_equal_seeds_give_equal_answers(self) -> None:
        r, s = vectors_instance(10, 60)
        for solve in (tunneling.simulated_annealing, tunneling.simulated_quantum_annealing, tunneling.tunnel):
            assert solve(r, s, 12, 1.0, rng(3)) == solve(r, s, 12, 1.0, rng(3))


BAD: dict[str, tuple[Any, Any, Any, Any, str]] = {
    "no candidates": ([], np.zeros((0, 0)), 1, 1.0, "relevance"),
    "relevance not flat": ([[1.0]], [[0.0]], 1, 1.0, "relevance"),
    "relevance not numbers": (["a", "b"], np.zeros((2, 2)), 1, 1.0, "relevance"),
    "relevance NaN": ([1.0, math.nan], np.zeros((2, 2)), 1, 1.0, "relevance[1]"),
    "relevance infinite": ([math.inf, 1.0], np.zeros((2, 2)), 1, 1.0, "relevance[0]"),
    "similarity of another size": ([1.0, 2.0], np.zeros((3, 3)), 1, 1.0, "similarity"),
    "similarity not square": ([1.0, 2.0], np.zeros((2, 3)), 1, 1.0, "similarity"),
    "similarity flat": ([1.0, 2.0], np.zeros(4), 1, 1.0, "similarity"),
    "similarity ragged": ([1.0, 2.0], [[0.0, 1.0], [1.0]], 1, 1.0, "similarity"),
    "similarity NaN": ([1.0, 2.0], [[0, math.nan], [math.nan, 0]], 1, 1.0, "similarity[0][1]"),
    "similarity asymmetric": ([1.0, 2.0], [[0, 0.5], [0.6, 0]], 1, 1.0, "similarity[0][1]"),
    "k zero": ([1.0, 2.0], np.zeros((2, 2)), 0, 1.0, "k"),
    "k above K": ([1.0, 2.0], np.zeros((2, 2)), 3, 1.0, "k"),
    "k a fraction": ([1.0, 2.0], np.zeros((2, 2)), 1.5, 1.0, "k"),
    "k a truth value": ([1.0, 2.0], np.zeros((2, 2)), True, 1.0, "k"),
    "diversity negative": ([1.0, 2.0], np.zeros((2, 2)), 1, -0.1, "diversity"),
    "diversity NaN": ([1.0, 2.0], np.zeros((2, 2)), 1, math.nan, "diversity"),
    "diversity a word": ([1.0, 2.0], np.zeros((2, 2)), 1, "much", "diversity"),
}


class TestValidation:
    @every_solver
    @pytest.mark.parametrize(("r", "s", "k", "mu", "path"), BAD.values(), ids=BAD)
    def test_names_the_wrong_field(self, solve: Any, r: Any, s: Any, k: Any, mu: Any, path: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            solve(r, s, k, mu)
        assert [error.path for error in caught.value.errors] == [path]

    @pytest.mark.parametrize(
        ("make", "path"),
        [
            (lambda: QuantumSchedule(slices=5), "schedule.slices"),
            (lambda: QuantumSchedule(slices=0), "schedule.slices"),
            (lambda: QuantumSchedule(restarts=0), "schedule.restarts"),
            (lambda: QuantumSchedule(sweeps=-1), "schedule.sweeps"),
            (lambda: QuantumSchedule(global_moves=-1), "schedule.global_moves"),
            (lambda: QuantumSchedule(temperature=0.0), "schedule.temperature"),
            (lambda: QuantumSchedule(field_end=0.0), "schedule.field_end"),
            (lambda: QuantumSchedule(field_start=0.001), "schedule.field_end"),
            (lambda: ThermalSchedule(chains=0), "schedule.chains"),
            (lambda: ThermalSchedule(sweeps=-1), "schedule.sweeps"),
            (lambda: ThermalSchedule(start=0.1, end=0.2), "schedule.end"),
        ],
    )
    def test_refuses_impossible_schedules(self, make: Callable[[], object], path: str) -> None:
        with pytest.raises(InvalidRequest) as caught:
            make()
        assert caught.value.errors[0].path == path


class TestSamplers:
    """Small enough to enumerate: the moves must leave the distribution that the method names unchanged."""

    R = np.array([0.9, 0.2, 0.5, -0.3])
    S = np.array([[0, 1.0, 0.2, 0.4], [1.0, 0, 0.3, -0.5], [0.2, 0.3, 0, 0.8], [0.4, -0.5, 0.8, 0]])
    PAIRS = tuple(itertools.combinations(range(4), 2))

    def replicas(self, starts: NDArray[np.intp], beta: float) -> annealing._Replicas:
        return annealing._Replicas(annealing.Landscape(self.R, self.S.copy(), 10.0, 2), starts, beta)

    def values(self) -> Floats:
        return np.array([self.R[i] + self.R[j] - self.S[i, j] for i, j in self.PAIRS])

    def codes(self, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        table = np.zeros((4, 4), dtype=np.intp)
        for code, (i, j) in enumerate(self.PAIRS):
            table[i, j] = table[j, i] = code
        return table[chosen[:, 0], chosen[:, 1]]

    def test_heat_bath_draws_from_the_boltzmann_distribution(self) -> None:
        count, beta, source = 20_000, 1.5, rng(1)
        replicas = self.replicas(np.tile(np.array([0, 1]), (count, 1)), beta)
        for _ in range(15):
            annealing._heat_bath(replicas.gains, replicas.chosen, replicas.repulsion, source.random((2, count, 1)))
        weights = np.exp(beta * self.values())
        shares = np.bincount(self.codes(replicas.chosen), minlength=6) / count
        assert np.abs(shares - weights / weights.sum()).max() < 0.015

    @pytest.mark.parametrize("global_moves_only", [False, True])
    def test_slices_draw_from_the_trotter_action(self, global_moves_only: bool) -> None:
        """Six slices of six states: 46,656 paths. Global moves alone, from a correct sample, must not change it."""
        rings, beta, field, source = 8000, 1.2, 0.5, rng(2)
        kappa = -0.5 * math.log(math.tanh(field))
        spins = np.array([[1 if site in pair else -1 for site in range(4)] for pair in self.PAIRS])
        bonds, values = kappa * spins @ spins.T, beta * self.values()
        paths = np.array(list(itertools.product(range(6), repeat=6)))
        action = values[paths].sum(axis=1) + sum(bonds[paths[:, p], paths[:, (p + 1) % 6]] for p in range(6))
        law = np.exp(action - action.max())
        law /= law.sum()
        start = paths[source.choice(len(paths), size=rings, p=law)] if global_moves_only else np.zeros((rings, 6), int)
        # Rows are (parity, ring, pair); slice 2m + parity is pair m.
        states = start.reshape(rings, 3, 2).transpose(2, 0, 1).reshape(-1)
        replicas = self.replicas(np.array(self.PAIRS)[states], beta)
        for _ in range(40):
            if not global_moves_only:
                for parity in (0, 1):
                    annealing._update_parity(replicas, parity, (rings, 3), annealing.trotter_bond(field), source)
            annealing._exchange_everywhere(replicas, (rings, 3), source)
        codes = self.codes(replicas.chosen).reshape(2, rings, 3)
        ends = codes.transpose(1, 2, 0).reshape(rings, 6)
        for first, second in (
            (0, 1),
            (1, 2),
            (0, 2),
            (0, 3),
        ):  # next to each other and not; all turns of the ring pooled
            turns = [((first + turn) % 6, (second + turn) % 6) for turn in (0, 2, 4)]
            drawn = np.concatenate([ends[:, a] * 6 + ends[:, b] for a, b in turns])
            shares = np.bincount(drawn, minlength=36) / len(drawn)
            expected = np.bincount(paths[:, first] * 6 + paths[:, second], weights=law, minlength=36)
            # Rings are independent, turns of one ring are not.
            assert np.all(np.abs(shares - expected) < 5 * np.sqrt(expected / rings))

    @pytest.mark.parametrize("field", [1e-6, 0.3, 2.0])
    def test_the_bond_is_that_of_the_transverse_field(self, field: float) -> None:
        """exp(field sigma_x) has cosh(field) on its diagonal and sinh(field) beside it; J couples two neighbours."""
        assert math.exp(annealing.trotter_bond(field) / 2) == pytest.approx(math.cosh(field) / math.sinh(field))

    def test_gains_are_kept_up_to_date(self) -> None:
        r, s = vectors_instance(11, 25)
        np.fill_diagonal(s, 0.0)
        landscape = annealing.Landscape.build(r, s, 6, rng())
        source = rng(4)
        replicas = annealing._Replicas(landscape, annealing.random_selections(16, 25, 6, source), 5.0)
        for _ in range(20):
            for parity in (0, 1):
                annealing._update_parity(replicas, parity, (2, 4), 0.4, source)
            annealing._exchange_everywhere(replicas, (2, 4), source)
            replicas.keep_best()
        replicas.set_beta(8.0)
        replicas.polish()
        fresh = annealing._Replicas(landscape, replicas.chosen, 8.0)
        inside = np.zeros(replicas.gains.shape, dtype=bool)
        np.put_along_axis(inside, replicas.chosen, True, axis=1)
        np.testing.assert_allclose(replicas.gains[~inside], fresh.gains[~inside], atol=1e-8)
        best = replicas.best
        value = landscape.rewards[best].sum() - landscape.repulsion[np.ix_(best, best)].sum() / 2
        assert replicas.best_value == pytest.approx(value, abs=1e-9)

    @pytest.mark.parametrize("polish", [True, False])
    def test_no_candidate_twice_however_hot_or_strongly_bound(self, polish: bool) -> None:
        r, s = vectors_instance(12, 10)
        hot = ThermalSchedule(start=HOT, end=HOT, polish=polish)
        assert len(set(tunneling.simulated_annealing(r, s, 8, 1.0, rng(), schedule=hot).indices)) == 8
        for temperature in (1e-3, HOT):
            schedule = QuantumSchedule(temperature=temperature, field_start=1e-6, field_end=1e-6, polish=polish)
            assert len(set(tunneling.simulated_quantum_annealing(r, s, 8, 1.0, rng(), schedule=schedule).indices)) == 8

    def test_without_sweeps_and_descent_the_best_start_comes_back(self) -> None:
        r, s = vectors_instance(13, 30)
        start = tunneling.greedy(r, s, 8, 0.3).value
        idle = QuantumSchedule(sweeps=0, polish=False)
        assert tunneling.simulated_quantum_annealing(r, s, 8, 0.3, rng(), schedule=idle).value == pytest.approx(start)
