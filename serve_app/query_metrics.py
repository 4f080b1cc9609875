"""What queries cost, and where their circuits ran, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from quantum_db.backend_choice import CLASSICAL
from quantum_db.kept_answers import KeptAnswers, Outcome
from quantum_db.kept_candidates import Looked
from quantum_db.model import Answer
from quantum_db.stores.copies import Copies, ReadFrom

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

        self._kept = Counter("query_cache", "Questions by how they were answered", ["outcome"], registry=registry)
        self._entries = Gauge("query_cache_entries", "Answers that are kept", registry=registry)
        self._bytes = Gauge("query_cache_bytes", "What the answers take that are kept", registry=registry)
        self._evictions = Gauge("query_cache_evictions", "Answers that went for want of room", registry=registry)

        self._reads = Counter("store_reads", "Searches by where they were answered", ["where"], registry=registry)
        self._copies = Gauge("store_copies", "Stores of which this replica has a copy", registry=registry)
        self._copied = Gauge("store_copies_bytes", "What the copies take on disk", registry=registry)

        self._candidates = Counter(
            "candidate_cache", "Searches by whether they were kept", ["outcome"], registry=registry
        )

    def watch(self, answers: KeptAnswers) -> None:
        """Tell from now on how full the cache is."""
        self._entries.set_function(lambda: len(answers.kept))
        self._bytes.set_function(lambda: answers.kept.size)
        self._evictions.set_function(lambda: answers.kept.evictions)

    def watch_copies(self, copies: Copies) -> None:
        """Tell from now on what is copied."""
        self._copies.set_function(lambda: len(copies))
        self._copied.set_function(lambda: copies.bytes)

    def note_read(self, where: ReadFrom) -> None:
        """Count a search of an embedded store."""
        self._reads.labels(where).inc()

    def note_candidates(self, looked: Looked) -> None:
        """Count a search whose candidates may be kept."""
        self._candidates.labels(looked).inc()

    def note_kept(self, outcome: Outcome) -> None:
        """Count a question that may be answered from what is kept."""
        self._kept.labels(outcome).inc()

    def note(self, answer: Answer) -> None:
        """Count an answer."""
        refinement = answer.refinement
        route = refinement.backend if refinement.ran and refinement.backend is not None else CLASSICAL
        self._routes.labels(route, "query" if refinement.routing is None else "router").inc()
        self._cost.observe(refinement.cost_usd)
