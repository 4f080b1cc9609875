"""The quantum words of the synthesizer, each beside named peers in the same run.

    python -m benchmarks.sql_quantum [--part selection|large|prefixes|circuits|batch] [--seed S]

selection  50 plans, 10 statements of 5: the share of instances at the optimum that CP-SAT proves.
large      1,000 plans and more, where nothing is proved: against CP-SAT's best after 10 s.
prefixes   left-deep join orders by the prefix QUBO: C_out over that of the exact left-deep order.
circuits   amplitude search over a cost register, and QAOA, on an ideal simulator: beside classical counts.
batch      statements that share work against one by one, on DuckDB, with the same rows.

"plain SA" and "tabu" are dwave-samplers on the same QUBO with penalties, as samplers that know no groups or orders take
it; an answer that is not valid counts as none. "descent" is ours without any annealing. Times are CPU times of one
thread, but for "batch", which is wall time. Costs are whole numbers, so that all solvers mean the same.

CP-SAT is in no lock: ``ortools`` brings pandas, which every process of Ray loads where it is there, and a cluster then
takes twice as long to start. For this comparison: ``pip install ortools`` in an environment of its own.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import duckdb
import numpy as np
from dwave.samplers import SimulatedAnnealingSampler, TabuSampler
from ortools.sat.python import cp_model

from quantum_db.annealing import QuantumSchedule, ThermalSchedule
from quantum_db.circuits.simulator import SimulatorBackend
from sql_synthesizer.engines.duckdb import DuckDbEngine
from sql_synthesizer.engines.ports import Limits
from sql_synthesizer.engines.reflection import Reflection
from sql_synthesizer.guard.check import Guard
from sql_synthesizer.joins.graph import JoinGraph, left_deep, log_c_out
from sql_synthesizer.multi_query import plan_batch, run_batch
from sql_synthesizer.quantum import qaoa
from sql_synthesizer.quantum.prefix_qubo import PrefixQubo, anneal_prefixes, greedy_order
from sql_synthesizer.quantum.selection import DEFAULT, PlanChoice, anneal, greedy, select, separate, warm_up
from sql_synthesizer.quantum.superposition import CostRegister, find_minimum

T = TypeVar("T")

DESCENT = ThermalSchedule(chains=16, sweeps=0)
FIELD = QuantumSchedule(restarts=2, slices=8, sweeps=60)
RINGS = QuantumSchedule(restarts=4, slices=8, sweeps=60)
MORE_RINGS = QuantumSchedule(restarts=4, slices=16, sweeps=240)


def choice(rng: np.random.Generator, statements: int, plans: int, links: float) -> PlanChoice:
    """Costs 100 to 1,000; each plan shares work with ``links`` others on average, of up to 60% of the cheaper one."""
    costs = rng.integers(100, 1_001, (statements, plans))
    pairs = [(a, b) for a, b in itertools.combinations(range(statements), 2)]
    share = links / (plans * (statements - 1))
    savings = {}
    for a, b in pairs:
        for i, j in np.argwhere(rng.random((plans, plans)) < share).tolist():
            savings[(a, i), (b, j)] = float(rng.integers(1, int(0.6 * min(costs[a, i], costs[b, j])) + 1))
    return PlanChoice.build([[float(cost) for cost in row] for row in costs], savings)


def by_cp_sat(problem: PlanChoice, seconds: float, *, proof: bool = True) -> float:
    """Return the best cost; with ``proof`` that of the optimum. Raises RuntimeError if it is not proved in time."""
    model = cp_model.CpModel()
    taken = [model.new_bool_var("") for _ in range(problem.plans)]
    for first, last in itertools.pairwise(problem.starts.tolist()):
        model.add_exactly_one(taken[first:last])
    terms = [int(cost) * bit for cost, bit in zip(problem.costs, taken, strict=True)]
    for (i, j), saving in zip(problem.pairs.tolist(), problem.savings, strict=True):
        both = model.new_bool_var("")
        model.add_implication(both, taken[i])
        model.add_implication(both, taken[j])
        terms.append(-int(saving) * both)
    model.minimize(sum(terms))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = seconds
    status = solver.solve(model)
    if proof and status != cp_model.OPTIMAL:
        raise RuntimeError(f"CP-SAT has no proof after {seconds} s")
    return solver.objective_value


def penalised(problem: PlanChoice) -> tuple[dict[int, float], dict[tuple[int, int], float]]:
    """Return the QUBO with a penalty for other than one plan of a statement: above what any plan can save."""
    weight = (
        1.0
        + float(np.abs(problem.costs).max())
        + float(np.bincount(problem.pairs.ravel(), problem.savings.repeat(2)).max())
    )
    linear = {plan: float(cost) - weight for plan, cost in enumerate(problem.costs)}
    quadratic = {
        (int(i), int(j)): -float(saving) for (i, j), saving in zip(problem.pairs, problem.savings, strict=True)
    }
    for first, last in itertools.pairwise(problem.starts.tolist()):
        for pair in itertools.combinations(range(first, last), 2):
            quadratic[pair] = quadratic.get(pair, 0.0) + 2.0 * weight
    return linear, quadratic


def by_dwave(problem: PlanChoice, sampler: str, seed: int) -> float:
    """Return the cheapest valid sample's cost; infinity without one."""
    linear, quadratic = penalised(problem)
    if sampler == "plain SA":
        found = SimulatedAnnealingSampler().sample_qubo(
            {**{(p, p): bias for p, bias in linear.items()}, **quadratic}, num_reads=16, num_sweeps=1000, seed=seed
        )
    else:
        qubo = {**{(p, p): bias for p, bias in linear.items()}, **quadratic}
        found = TabuSampler().sample_qubo(qubo, num_reads=1, timeout=50, seed=seed)
    best = math.inf
    for row in found.record.sample:
        chosen = np.flatnonzero(row[np.argsort(list(found.variables))])
        if len(chosen) == problem.statements and (problem.owner[chosen] == np.arange(problem.statements)).all():
            best = min(best, problem.cost(chosen))
    return best


def timed(solve: Callable[[T, int], float], problems: Sequence[T]) -> list[tuple[float, float]]:
    """Return what a solver gives for each problem and its number, with the CPU milliseconds."""
    found = []
    for number, problem in enumerate(problems):
        begun = time.process_time()
        value = solve(problem, number)
        found.append((value, 1e3 * (time.process_time() - begun)))
    return found


def tell(name: str, costs: list[float], times: list[float], best: list[float]) -> None:
    valid = [(cost, least) for cost, least in zip(costs, best, strict=True) if math.isfinite(cost)]
    at_best = sum(cost <= least + 1e-6 for cost, least in valid)
    gap = statistics.fmean((cost - least) / abs(least) for cost, least in valid) if valid else math.nan
    slowest = max(times)
    print(
        f"| {name} | {at_best} of {len(costs)} | {len(costs) - len(valid)} | {100 * gap:.2f}% | "
        f"{statistics.median(times):.2f} | {slowest:.2f} |"
    )


def head(title: str) -> None:
    print(f"\n{title}\n\n| solver | at the reference | not valid | mean gap | median ms | most ms |", flush=True)
    print("|---|---|---|---|---|---|")


def selection(seed: int, count: int = 100) -> None:
    rng = np.random.default_rng([seed, 1])
    problems = [choice(rng, 10, 5, (1, 2, 4)[n % 3]) for n in range(count)]
    proofs = timed(lambda one, _: by_cp_sat(one, 60.0), problems)
    best = [cost for cost, _ in proofs]
    begun = time.process_time()
    warm_up()
    compiled_s = time.process_time() - begun
    head(f"{count} instances of 10 x 5 plans; the reference is CP-SAT's proof; {compiled_s:.1f} s to compile before")
    solvers: dict[str, Callable[[PlanChoice, int], float]] = {
        "select (ours: anneal, then try a proof)": lambda one, n: select(one, np.random.default_rng(n)).choice.cost,
        "anneal, thermal": lambda one, n: anneal(one, np.random.default_rng(n), DEFAULT)[0].cost,
        "anneal, transverse field": lambda one, n: anneal(one, np.random.default_rng(n), RINGS)[0].cost,
        "descent": lambda one, n: anneal(one, np.random.default_rng(n), DESCENT)[0].cost,
        "greedy": lambda one, _: greedy(one).cost,
        "each statement's cheapest": lambda one, _: separate(one).cost,
        "plain SA (dwave-samplers)": lambda one, n: by_dwave(one, "plain SA", n),
        "tabu (dwave-samplers)": lambda one, n: by_dwave(one, "tabu", n),
    }
    for name, solve in solvers.items():
        found = timed(solve, problems)
        tell(name, [cost for cost, _ in found], [ms for _, ms in found], best)
    tell("CP-SAT", best, [ms for _, ms in proofs], best)
    proven = sum(select(one, np.random.default_rng(n)).proven for n, one in enumerate(problems))
    print(f"\nOf ours {proven} of {count} are proved by branch and bound within the times above.")


def large(seed: int) -> None:
    warm_up()
    for statements, plans in ((200, 5), (537, 2)):
        rng = np.random.default_rng([seed, 2, statements])
        problems = [choice(rng, statements, plans, 8) for _ in range(3)]
        solvers: dict[str, Callable[[PlanChoice, int], float]] = {
            "select (ours)": lambda one, n: select(one, np.random.default_rng(n)).choice.cost,
            "anneal, transverse field": lambda one, n: anneal(one, np.random.default_rng(n), RINGS)[0].cost,
            "anneal, transverse field, 8 x as long": lambda one, n: (
                anneal(one, np.random.default_rng(n), MORE_RINGS)[0].cost
            ),
            "descent": lambda one, n: anneal(one, np.random.default_rng(n), DESCENT)[0].cost,
            "greedy": lambda one, _: greedy(one).cost,
            "plain SA (dwave-samplers)": lambda one, n: by_dwave(one, "plain SA", n),
            "CP-SAT, 10 s": lambda one, _: by_cp_sat(one, 10.0, proof=False),
        }
        found = {name: timed(solve, problems) for name, solve in solvers.items()}
        best = [min(results[n][0] for results in found.values()) for n in range(len(problems))]
        head(f"3 instances of {statements} x {plans} plans; the reference is the best that any solver met")
        for name, results in found.items():
            tell(name, [cost for cost, _ in results], [ms for _, ms in results], best)


def join_graph(rng: np.random.Generator, relations: int, shape: str) -> JoinGraph:
    """Rows 10 to 10^5, selectivities 10^-4 to 1, log-uniform."""
    edges = {
        "chain": [(i, i + 1) for i in range(relations - 1)],
        "star": [(0, i) for i in range(1, relations)],
        "cycle": [(i, (i + 1) % relations) for i in range(relations)],
        "clique": list(itertools.combinations(range(relations), 2)),
    }[shape]
    selectivity = np.zeros((relations, relations))
    for i, j in edges:
        selectivity[i, j] = selectivity[j, i] = math.log(10.0) * rng.uniform(-4.0, -0.05)
    rows = math.log(10.0) * rng.uniform(1.0, 5.0, relations)
    return JoinGraph(tuple(f"r{i}" for i in range(relations)), rows, selectivity)


def exact_left_deep(graph: JoinGraph) -> float:
    """Return the log C_out of the best of all left-deep orders, by dynamic programming over subsets."""
    n = graph.size
    logs = np.zeros(1)
    for high in range(n):
        added = np.full(1 << high, graph.log_rows[high])
        for bit in range(high):
            added[(np.arange(1 << high) >> bit & 1).astype(np.bool_)] += graph.log_selectivity[high, bit]
        logs = np.concatenate([logs, logs + added])
    masks, sizes = np.arange(1 << n), np.bitwise_count(np.arange(1 << n))
    best = np.where(sizes == 1, -np.inf, np.inf)
    for size in range(2, n + 1):
        layer = masks[sizes == size]
        least = np.full(len(layer), np.inf)
        for bit in range(n):
            has = (layer >> bit & 1).astype(np.bool_)
            least[has] = np.minimum(least[has], best[layer[has] ^ (1 << bit)])
        best[layer] = np.logaddexp(least, logs[layer])
    return float(best[-1])


def by_dwave_prefixes(graph: JoinGraph, seed: int) -> float:
    qubo = PrefixQubo.of(graph)
    cost = qubo.penalised()
    terms = {(i, i): float(bias) for i, bias in enumerate(cost.linear)}
    terms |= {(int(i), int(j)): float(cost.quadratic[i, j]) for i, j in np.argwhere(np.triu(cost.quadratic, 1))}
    found = SimulatedAnnealingSampler().sample_qubo(terms, num_reads=16, num_sweeps=1000, seed=seed)
    best = math.inf
    for row in found.record.sample:
        order = qubo.order(row[np.argsort(list(found.variables))].astype(np.bool_))
        if order is not None:
            best = min(best, log_c_out(graph, left_deep(order)))
    return best


def prefixes(seed: int) -> None:
    warm_up()
    shapes = ("chain", "star", "cycle", "clique")
    print("\nC_out over the exact left-deep order's, geometric mean (worst); CPU ms, median")
    print("\n| relations | solver | ratio | worst | not valid | ms |\n|---|---|---|---|---|---|")
    for relations in (8, 10, 14):
        rng = np.random.default_rng([seed, 3, relations])
        graphs = [join_graph(rng, relations, shape) for shape in shapes for _ in range(3)]
        exact = timed(lambda g, _: exact_left_deep(g), graphs)
        solvers: dict[str, Callable[[JoinGraph, int], float]] = {
            "prefix QUBO, thermal on orders": lambda g, n: anneal_prefixes(g, np.random.default_rng(n)).log_c_out,
            "prefix QUBO, transverse field on orders": lambda g, n: (
                anneal_prefixes(g, np.random.default_rng(n), FIELD).log_c_out
            ),
            "prefix QUBO with penalties, plain SA (dwave-samplers)": by_dwave_prefixes,
            "greedy": lambda g, _: log_c_out(g, left_deep(greedy_order(g).tolist())),
        }
        for g in graphs[:1]:
            for solve in list(solvers.values())[:2]:
                solve(g, 0)
        for name, solve in solvers.items():
            found = timed(solve, graphs)
            gaps = [log - best for (log, _), (best, _) in zip(found, exact, strict=True) if math.isfinite(log)]
            mean, worst = (math.exp(statistics.fmean(gaps)), math.exp(max(gaps))) if gaps else (math.nan, math.nan)
            ms = statistics.median(ms for _, ms in found)
            print(f"| {relations} | {name} | {mean:.2f} | {worst:.2f} | {len(graphs) - len(gaps)} | {ms:.1f} |")
        print(
            f"| {relations} | exact left-deep DP | 1.00 | 1.00 | 0 | {statistics.median(ms for _, ms in exact):.1f} |"
        )


def circuits(seed: int) -> None:
    warm_up()
    backend = SimulatorBackend(np.random.default_rng([seed, 4]), max_qubits=16)
    print("\n| plans | qubits | found the minimum | oracle calls until found | in all | classical calls | most CX |")
    print("|---|---|---|---|---|---|---|")
    for plans in (4, 8, 16, 32):
        runs = []
        for n in range(10):
            rng = np.random.default_rng([seed, 4, plans, n])
            register = CostRegister.of(np.log(rng.uniform(10.0, 1e6, plans)).tolist(), 12)
            runs.append(find_minimum(register, backend, rng, key=f"{plans}-{n}", timeout_s=60.0))
        print(
            f"| {plans} | {runs[0].qubits} | {sum(run.is_minimum for run in runs)} of {len(runs)} | "
            f"{statistics.fmean(run.calls_until_found for run in runs):.1f} | "
            f"{statistics.fmean(run.oracle_calls for run in runs):.1f} | {plans} | "
            f"{max(run.largest_two_qubit_gates for run in runs)} |"
        )
    print(
        "\n| QAOA on | layers | qubits | CX + RZZ | valid shots | P(optimum) a shot | a uniform valid draw | over it |"
    )
    print("|---|---|---|---|---|---|---|---|")
    rng = np.random.default_rng([seed, 5])
    problems = [(f"{q} x 3 plans", "selection", q) for q in (3, 4, 5)] + [
        (f"{n} relations", "prefixes", n) for n in (4, 5)
    ]
    for name, kind, size in problems:
        for layers in (1, 3, 5):
            answers = []
            for n in range(3):
                draw = np.random.default_rng([seed, 6, size, n])
                if kind == "selection":
                    problem = choice(draw, size, 3, 4)
                    encoding = qaoa.encode_selection(problem, select(problem, draw).choice)
                else:
                    graph = join_graph(draw, size, "cycle")
                    encoding = qaoa.encode_prefixes(graph, anneal_prefixes(graph, draw))
                circuit = qaoa.plan(encoding, rng, layers)
                answers.append(qaoa.sample(encoding, circuit, backend, 1_000, key=f"{name}{n}", timeout_s=60.0))
            mean = statistics.fmean(answer.optimum_probability for answer in answers)
            uniform = answers[0].uniform_probability
            valid = statistics.fmean(answer.valid_shots / answer.shots for answer in answers)
            gates = max(answer.two_qubit_gates for answer in answers)
            print(
                f"| {name} | {layers} | {answers[0].qubits} | {gates} | {valid:.0%} | {mean:.1%} | {uniform:.2%} | "
                f"{mean / uniform:.1f} |"
            )


def shop(path: Path) -> None:
    with duckdb.connect(str(path)) as made:
        made.execute("CREATE TABLE region AS SELECT i AS id, 'land' || i AS name FROM range(25) t(i)")
        made.execute(
            "CREATE TABLE customer AS SELECT i AS id, i % 25 AS region, i % 7 AS segment FROM range(150000) t(i)"
        )
        made.execute("CREATE TABLE product AS SELECT i AS id, i % 40 AS kind, i % 1000 AS price FROM range(20000) t(i)")
        made.execute(
            "CREATE TABLE sale AS SELECT i AS id, (i * 7919) % 150000 AS customer, (i * 104729) % 20000 AS product, "
            "i % 11 AS amount, i % 730 AS day FROM range(4000000) t(i)"
        )


SHARED = (
    "FROM sale s JOIN customer c ON s.customer = c.id JOIN product p ON s.product = p.id "
    "WHERE p.kind = 7 AND s.day < 365"
)
DASHBOARD = (
    f"SELECT c.segment, SUM(s.amount) AS n {SHARED} GROUP BY c.segment ORDER BY c.segment",
    f"SELECT c.region, COUNT(*) AS n {SHARED} GROUP BY c.region ORDER BY c.region",
    f"SELECT p.price, SUM(s.amount) AS n {SHARED} AND c.segment = 3 GROUP BY p.price ORDER BY n DESC, p.price LIMIT 10",
    f"SELECT s.day, SUM(s.amount * p.price) AS n {SHARED} GROUP BY s.day ORDER BY s.day",
    f"SELECT COUNT(DISTINCT s.customer) AS n {SHARED} AND s.day > 100",
    f"SELECT MAX(p.price) AS n {SHARED} AND s.amount > 5 AND c.region = 4",
)
UNRELATED = (
    "SELECT COUNT(*) FROM customer WHERE segment = 3",
    "SELECT AVG(price) FROM product WHERE kind = 7",
    "SELECT COUNT(*) FROM sale WHERE day = 9",
    "SELECT s.day, s.amount, c.segment, c.region, s.id FROM sale s JOIN customer c ON s.customer = c.id "
    "WHERE s.day < 700 AND s.amount >= 0 ORDER BY s.id LIMIT 5",
    "SELECT COUNT(*) FROM sale s JOIN customer c ON s.customer = c.id WHERE s.day < 700 AND s.amount >= 0",
)


def batch(seed: int) -> None:
    warm_up()
    print("\n| statements | parts found | kept | estimated saving | one by one ms | shared ms | over one by one |")
    print("|---|---|---|---|---|---|---|")
    limits = Limits(max_rows=10_000, timeout_s=60.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.duckdb"
        shop(path)
        engine = DuckDbEngine(path, reflection=Reflection(exact_rows=5_000_000))
        guard = Guard(engine.schema())
        for name, texts in (("6 of a dashboard", DASHBOARD), ("5 with little in common", UNRELATED)):
            statements = [guard.check(text, limits) for text in texts]
            alone_ms, shared_ms = [], []
            for _ in range(7):
                begun = time.perf_counter()
                alone = [engine.run(one.sql, one.parameters, limits) for one in statements]
                alone_ms.append(1e3 * (time.perf_counter() - begun))
                begun = time.perf_counter()
                plan = plan_batch(statements, engine.schema(), np.random.default_rng(seed))
                result = run_batch(engine, plan, limits)
                shared_ms.append(1e3 * (time.perf_counter() - begun))
                for one, other in zip(alone, result.answers, strict=True):
                    assert other.rows is not None
                    assert sorted(map(repr, one.rows)) == sorted(map(repr, other.rows.rows)), other.sql
            one_by_one, shared = statistics.median(alone_ms), statistics.median(shared_ms)
            print(
                f"| {name} | {plan.candidates} | {len(result.kept)} | {result.estimated_reduction:.0%} | "
                f"{one_by_one:.0f} | {shared:.0f} | {one_by_one / shared:.2f} |"
            )
        engine.close()


PARTS = {"selection": selection, "large": large, "prefixes": prefixes, "circuits": circuits, "batch": batch}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="one table alone; all take some five minutes")
    parser.add_argument("--seed", type=int, default=2016)
    args = parser.parse_args()
    for name, part in PARTS.items():
        if args.part in (None, name):
            part(args.seed)


if __name__ == "__main__":
    main()
