"""What queries cost, and where their circuits ran, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from quantum_db.backend_choice import CLASSICAL
from quantum_db.model import Answer

COST_BUCKETS_USD = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)


class QueryMetrics:
    """Counts answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._routes = Counter(
            "query_routes",
            "Answers by where their circuits ran, and who chose it",
            ["route", "by"],
            registry=registry,
        )
        self._cost = Histogram("query_cost_usd", "Cost of a query", registry=registry, buckets=COST_BUCKETS_USD)

    def note(self, answer: Answer) -> None:
        """Count an answer."""
        refinement = answer.refinement
        route = refinement.backend if refinement.ran and refinement.backend is not None else CLASSICAL
        self._routes.labels(route, "query" if refinement.routing is None else "router").inc()
        self._cost.observe(refinement.cost_usd)
