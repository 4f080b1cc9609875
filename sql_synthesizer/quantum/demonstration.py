"""A join order by circuits, beside the classical answer: amplitudes over a cost register, and QAOA on the prefixes.

A demonstration on request, and called one: the costs in the register were computed classically, and the angles of QAOA
are found by listing what they choose from. `benchmarks/sql_quantum.py` tells how likely a shot is the best order.
"""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np

from quantum_db.backend_ports import JobPool, JobRequest
from quantum_db.circuits.qaoa_ansatz import MAX_VARIABLES
from sql_synthesizer.joins.graph import JoinGraph, left_deep, log_c_out
from sql_synthesizer.quantum import qaoa
from sql_synthesizer.quantum.prefix_qubo import anneal_prefixes
from sql_synthesizer.quantum.selection import Schedule
from sql_synthesizer.quantum.superposition import CostRegister, MinimumSearch, find_minimum_pooled

LEAST_RELATIONS: Final = 3
MAX_ORDERS: Final = 16
MAX_ORACLE_CALLS: Final = 60
"""Each run of the search is a job of its own: at a provider that is some 30 jobs."""


async def demonstrate(
    graph: JoinGraph, jobs: JobPool, request: JobRequest, num_qubits: int, schedule: Schedule, rng: np.random.Generator
) -> dict[str, Any]:
    """Return what both circuits found for a graph of at least ``LEAST_RELATIONS`` relations, as JSON-ready values.

    Args:
        request: a pattern of the jobs; the search takes one shot of each of its circuits.
        num_qubits: of the search's circuit; more plans than it has room for are left out.

    Raises what ``JobPool.run`` raises.
    """
    classical = await asyncio.to_thread(anneal_prefixes, graph, rng, schedule)
    room = 1 << max(1, min(MAX_ORDERS.bit_length() - 1, num_qubits - 4))
    orders = candidate_orders(graph, classical.order, room, rng)
    costs = [log_c_out(graph, left_deep(order)) for order in orders]
    search = MinimumSearch(CostRegister.of(costs, num_qubits), rng, max_oracle_calls=MAX_ORACLE_CALLS)
    found = await find_minimum_pooled(search, jobs, replace(request, key=f"{request.key}-search", shots=1))
    told: dict[str, Any] = {
        "relations": list(graph.names),
        "superposition": {
            **asdict(found),
            "order": list(orders[found.plan]),
            "classical_order": list(orders[found.classical_plan]),
            "is_minimum": found.is_minimum,
            "plans": len(orders),
        },
    }
    bits = graph.size * (graph.size - 2)
    if bits > MAX_VARIABLES:
        return {**told, "qaoa": {"why": f"the prefixes take {bits} bits, and {MAX_VARIABLES} are the most"}}
    encoding = qaoa.encode_prefixes(graph, classical)
    circuit = await asyncio.to_thread(qaoa.plan, encoding, rng)
    sampled = await qaoa.sample_pooled(encoding, circuit, jobs, replace(request, key=f"{request.key}-qaoa"))
    return {**told, "qaoa": asdict(sampled)}


def candidate_orders(
    graph: JoinGraph, best: tuple[int, ...], most: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Return ``best`` and different orders one exchange away from an order before, at most ``most``, shuffled."""
    found = [best]
    for _ in range(50 * most):
        if len(found) == most:
            break
        order = list(found[int(rng.integers(len(found)))])
        i, j = rng.choice(graph.size, size=2, replace=False).tolist()
        order[i], order[j] = order[j], order[i]
        if tuple(order) not in found:
            found.append(tuple(order))
    return [found[place] for place in rng.permutation(len(found)).tolist()]
