"""The latest metrics of every ingress replica, so that a scrape of one of them tells about all."""

from __future__ import annotations

import time

from quantum_db.telemetry import Snapshot

FORGET_AFTER_S = 60.0


class MetricsHub:
    """Snapshots by source. A source that has been silent for a minute is forgotten."""

    def __init__(self) -> None:
        self._snapshots: dict[str, tuple[float, Snapshot]] = {}

    async def ready(self) -> bool:
        """Return True: there is nothing to load."""
        return True

    async def put(self, source: str, families: Snapshot) -> None:
        """Hold the latest snapshot of a replica."""
        self._snapshots[source] = (time.monotonic(), families)

    async def forget(self, source: str) -> None:
        """Let go of a replica that ends."""
        self._snapshots.pop(source, None)

    async def metrics(self) -> list[Snapshot]:
        """Return the snapshots of all replicas that have been heard of lately."""
        now = time.monotonic()
        self._snapshots = {
            source: (at, families) for source, (at, families) in self._snapshots.items() if now - at < FORGET_AFTER_S
        }
        return [families for _, families in self._snapshots.values()]
