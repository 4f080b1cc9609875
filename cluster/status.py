"""What a running cluster tells of itself: readiness, counts, backends."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from cluster.background import Background
from cluster.commands.shared import fetched, rest
from quantum_db.errors import Unavailable

COUNTED: Final[Mapping[str, str]] = {
    "store_entities": "entities",
    "entanglement_groups": "groups",
    "states": "states",
    "sessions": "sessions",
    "commits_open": "open commits",
}
"""Gauges of the metrics, and what they count; added up over all processes."""


@dataclass(frozen=True, slots=True)
class Status:
    """What was found.

    Attributes:
        grpc: where gRPC is answered; None where it is not, or nobody on this machine knows.
        failing: the parts that are not ready, with the reasons.
        counts: by what is counted.
        backends: by name, as ``GET /api/v2/backends`` tells.
    """

    url: str
    grpc: str | None
    ready: bool
    failing: tuple[str, ...]
    counts: Mapping[str, int]
    backends: Mapping[str, Mapping[str, Any]]


def look(url: str, here: Background | None) -> Status:
    """Ask a cluster, which is that of this machine if there is one. Raises Unavailable where none answers."""
    answer = fetched(url, "GET", "/readyz")
    try:
        failing = tuple(answer.json()["failing"])
    except (ValueError, KeyError, TypeError):
        raise Unavailable(f"what answers at {url} is no cluster: {answer.status_code}") from None
    metrics = fetched(url, "GET", "/metrics").text
    grpc = None if here is None else here.grpc
    return Status(url, grpc, not failing, failing, counts_in(metrics), rest(url, "GET", "/api/v2/backends"))


def counts_in(metrics: str) -> dict[str, int]:
    """Return what the gauges of a Prometheus text count."""
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(metrics):
        if family.name in COUNTED:
            found[COUNTED[family.name]] += sum(sample.value for sample in family.samples)
    return {name: int(found[name]) for name in COUNTED.values() if name in found}
