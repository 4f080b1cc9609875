"""Metrics of several processes as one exposition. Each process has its own registry and hands over snapshots."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

Snapshot: TypeAlias = list[tuple[str, str, str, list[tuple[str, dict[str, str], float]]]]
"""Families of one process as plain values: name, help text, type, and samples (name, labels, value)."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def snapshot(registry: CollectorRegistry, source: str) -> Snapshot:
    """Return the registry's families, each sample labelled with the process it comes from."""
    return [
        (
            family.name,
            family.documentation,
            family.type,
            [
                (sample.name, {**sample.labels, "source": source}, sample.value)
                for sample in family.samples
                if not sample.name.endswith("_created")  # a time stamp a series, which Prometheus has no use for
            ],
        )
        for family in registry.collect()
    ]


class _Merged(Collector):
    def __init__(self, snapshots: Iterable[Snapshot]) -> None:
        self._families: dict[str, Metric] = {}
        for families in snapshots:
            for name, text, kind, samples in families:
                family = self._families.setdefault(name, Metric(name, text, kind))
                family.samples += [Sample(sample, labels, value) for sample, labels, value in samples]

    def collect(self) -> Iterable[Metric]:
        return self._families.values()


def exposition(snapshots: Iterable[Snapshot]) -> bytes:
    """Return the Prometheus text of all snapshots; families with one name are merged."""
    registry = CollectorRegistry()
    registry.register(_Merged(snapshots))
    return generate_latest(registry)
