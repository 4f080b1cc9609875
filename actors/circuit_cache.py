"""Circuit structures, built once in the cluster; each replica keeps what it has used."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Gauge
from ray.actor import ActorHandle

from actors.shell import ask
from quantum_db.circuits.cache import TemplateCache
from quantum_db.circuits.template import Template
from quantum_db.errors import NotFound, Unavailable
from quantum_db.telemetry import Snapshot, snapshot


def report(cache: TemplateCache, gauge: Gauge) -> None:
    """Set the gauge to what the cache has done."""
    counts = cache.counts()
    for what in ("hits", "misses", "evictions", "entries"):
        gauge.labels(what).set(getattr(counts, what))


def cache_gauge(registry: CollectorRegistry) -> Gauge:
    """Return the gauge that ``report`` sets."""
    return Gauge("circuit_cache", "Hits, misses, evictions and entries since start", ["what"], registry=registry)


class CircuitCache:
    """A ``TemplateCache`` for the whole cluster."""

    def __init__(self, capacity: int) -> None:
        self._cache = TemplateCache(capacity)
        self._registry = CollectorRegistry()
        self._gauge = cache_gauge(self._registry)

    async def ready(self) -> bool:
        """Return True: there is nothing to load."""
        return True

    async def overlap(self, num_qubits: int) -> Template:
        """See ``Templates.overlap``."""
        return self._cache.overlap(num_qubits)

    async def put(self, template: Template) -> None:
        """Hold a structure that a replica has used."""
        self._cache.put(template)

    async def get(self, key: str) -> Template:
        """See ``Templates.get``."""
        template = self._cache.find(key)
        if template is None:
            raise NotFound(f"there is no circuit {key!r} in the cache; the answer of a query names its own")
        return template

    async def metrics(self) -> Snapshot:
        """Return this process's metrics."""
        report(self._cache, self._gauge)
        return snapshot(self._registry, "circuits")


class SharedTemplates:
    """Implements ``Templates``: this process's cache first, then the cluster's; built here if that one is away."""

    def __init__(self, actor: ActorHandle[Any], cache: TemplateCache) -> None:
        self._actor = actor
        self._cache = cache

    async def overlap(self, num_qubits: int) -> Template:
        template = self._cache.find_overlap(num_qubits)
        if template is not None:
            return template
        try:
            template = await ask(self._actor.overlap.remote(num_qubits), timeout_s=2.0)
        except Unavailable:
            return self._cache.overlap(num_qubits)
        assert isinstance(template, Template)
        self._cache.put_overlap(template)
        return template

    def note(self, template: Template) -> None:
        if not self._cache.holds(template.key):
            self._cache.put(template)
            self._actor.put.remote(template)

    async def get(self, key: str) -> Template:
        template = await ask(self._actor.get.remote(key))
        assert isinstance(template, Template)
        return template
