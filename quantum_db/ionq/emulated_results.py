"""The results of the emulator's jobs: simulated in threads when first asked for, each job once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import orjson

from quantum_db.ionq.emulated_jobs import Job
from quantum_db.ionq.emulated_noise import simulate_noisy
from quantum_db.ionq.gate_simulator import Circuit, Histogram, simulate

Simulate = Callable[[Sequence[Circuit]], list[Histogram]]

KEPT_BYTES: Final = 128 * 1024 * 1024
KEPT_RESULTS: Final = 2_000


class ResultStore:
    """Serialised results of jobs. What was evicted is simulated again and comes out the same."""

    def __init__(
        self, *, run: Simulate = simulate, seed: int = 0, shuffle: bool = False, kept_bytes: int = KEPT_BYTES
    ) -> None:
        """Start empty.

        Args:
            run: the simulator of circuits without noise.
            seed: of the shots of jobs that do not bring one; each circuit of each job has a stream of its own.
            shuffle: whether the circuits of a job come in another order than they were submitted in, by ``seed``: JSON
                objects have no order, so a client must not rely on one.
            kept_bytes: how much is kept, beside the newest result.
        """
        self._simulate = run
        self._seed = seed
        self._shuffle = shuffle
        self._kept_bytes = kept_bytes
        self._results: dict[str, asyncio.Task[tuple[bytes, ...]]] = {}
        self._sizes: dict[str, int] = {}  # of the results that are there, oldest first
        self._places = asyncio.Semaphore(os.cpu_count() or 1)

    async def of_job(self, job: Job) -> bytes:
        """Return the JSON body of a whole job: outcome -> probability, by child job if it has several circuits."""
        parts = await self._parts(job)
        if not job.spec.multi:
            return parts[0]
        keyed = [b'"%s":%s' % (child.encode(), part) for child, part in zip(job.child_ids, parts, strict=True)]
        if self._shuffle:
            order = np.random.default_rng((self._seed, job.number)).permutation(len(keyed))
            keyed = [keyed[place] for place in order]
        return b"{" + b",".join(keyed) + b"}"

    async def of_circuit(self, job: Job, circuit: int) -> bytes:
        """Return the JSON body of one circuit: outcome -> probability."""
        return (await self._parts(job))[circuit]

    def reset(self) -> None:
        """Forget all results."""
        self._results.clear()
        self._sizes.clear()

    async def _parts(self, job: Job) -> tuple[bytes, ...]:
        task = self._results.get(job.id)
        if task is None:
            task = self._results[job.id] = asyncio.create_task(self._run(job))
        try:
            # A client that leaves must not take the result from others who wait for it.
            return await asyncio.shield(task)
        finally:
            if task.done() and (task.cancelled() or task.exception() is not None):
                self._results.pop(job.id, None)

    async def _run(self, job: Job) -> tuple[bytes, ...]:
        async with self._places:
            parts = await asyncio.to_thread(_serialise, job, self._simulate, self._seed)
        self._evict()
        self._sizes[job.id] = sum(map(len, parts))
        return parts

    def _evict(self) -> None:
        """Drop the oldest results until what is kept fits."""
        kept = sum(self._sizes.values())
        while self._sizes and (kept > self._kept_bytes or len(self._sizes) >= KEPT_RESULTS):
            oldest = next(iter(self._sizes))
            kept -= self._sizes.pop(oldest)
            self._results.pop(oldest, None)


def _serialise(job: Job, run: Simulate, seed: int) -> tuple[bytes, ...]:
    spec = job.spec
    histograms = run(spec.circuits) if spec.noise.is_ideal else simulate_noisy(spec.circuits, spec.noise)
    if spec.samples:
        stream = (seed, job.number) if spec.noise_seed is None else (spec.noise_seed,)
        histograms = [
            _frequencies(histogram, spec.shots, (*stream, index)) for index, histogram in enumerate(histograms)
        ]
    return tuple(orjson.dumps({str(outcome): p for outcome, p in histogram.items()}) for histogram in histograms)


def _frequencies(histogram: Histogram, shots: int, seed: tuple[int, ...]) -> Histogram:
    """Return the share of each outcome among shots drawn from its probabilities."""
    probabilities = np.fromiter(histogram.values(), dtype=np.float64, count=len(histogram))
    drawn = np.random.default_rng(seed).multinomial(shots, probabilities / probabilities.sum())
    return {outcome: count / shots for outcome, count in zip(histogram, drawn.tolist(), strict=True) if count}
