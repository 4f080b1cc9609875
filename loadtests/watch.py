"""What the cluster does meanwhile: replicas, workers, queue and memory, each second or two."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

EVERY_S: Final = 2.0
TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the metrics: ingress replicas, workers of the job pool, callers that wait for a backend, requests refused."""

    replicas: int
    workers: float
    waiting: float
    shed: float


@dataclass(frozen=True, slots=True)
class Look:
    """At one moment, by the clock of the system (epoch). ``memory_mb`` is of all processes of the cluster."""

    at_s: float
    counts: Counts
    memory_mb: float


def counts_of(metrics: str) -> Counts:
    """Return what a Prometheus text tells."""
    replicas, workers, waiting, shed = set(), 0.0, 0.0, 0.0
    for family in text_string_to_metric_families(metrics):
        for sample in family.samples:
            source = sample.labels.get("source", "")
            if source.startswith("ingress-"):
                replicas.add(source)
            if sample.name == "quantum_jobs_now" and sample.labels["where"] == "waiting":
                waiting += sample.value
            elif sample.name == "quantum_workers" and sample.labels["state"] == "working":
                workers += sample.value
            elif sample.name == "http_requests_shed_total":
                shed += sample.value
    return Counts(len(replicas), workers, waiting, shed)


def memory_mb(processes: list[psutil.Process]) -> float:
    """Return the proportional share of memory that the processes hold; those that have ended hold none."""
    held = 0
    for process in processes:
        try:
            held += process.memory_full_info().pss
        except psutil.Error:
            continue
    return held / 2**20


class Watch:
    """Looks from a thread for as long as the block runs."""

    def __init__(self, url: str, key: str, processes: list[psutil.Process]) -> None:
        self.looks: list[Look] = []
        self.missed = 0
        self._client = httpx.Client(base_url=url, headers={"api-key": key}, timeout=TIMEOUT_S)
        self._processes = processes
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._client.close()

    def _run(self) -> None:
        while not self._end.wait(EVERY_S):
            try:
                found = self._client.get("/metrics").raise_for_status().text
            except httpx.HTTPError:
                self.missed += 1  # under load that is too much for it; the report tells how often
                continue
            self.looks.append(Look(time.time(), counts_of(found), memory_mb(self._processes)))
