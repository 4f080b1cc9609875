"""The quantum job pool: limits, budgets, fairness, one paid job for each piece of work, results that are kept.

``run`` takes circuits and gives counts. Circuits that have run before are answered from the ledger; those that are
queued or in flight for the same tenant are waited for; the rest is priced, reserved, queued, and sent together with
what others want at the same time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

from quantum_db.backend_ports import BackendLimits, BackendResult, Condition, JobRequest
from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import CircuitBatch
from quantum_db.errors import BudgetExceeded, DeadlineExceeded, InvalidRequest, JobCanceled, QuantumDBError, Unavailable
from quantum_db.ionq.pricing import PRICE_MODELS
from quantum_db.jobs.answers import answer_of, draw_name, draws_of, sum_of
from quantum_db.jobs.breaker import Override
from quantum_db.jobs.budget import Account, Charge, Spending, day_of, micro_of
from quantum_db.jobs.coalescing import Wish, chunks, wish_of, without
from quantum_db.jobs.dispatch import Dispatcher
from quantum_db.jobs.job_metrics import JobMetrics
from quantum_db.jobs.lanes import Lane
from quantum_db.jobs.ledger import KeptResult, Ledger
from quantum_db.jobs.rounds import adaptive_rounds
from quantum_db.jobs.runs import Outcome, Run
from quantum_db.jobs.scaling import LaneLoad
from quantum_db.jobs.workers import Workers
from quantum_db.model import Provenance
from quantum_db.near import near_name
from quantum_db.ports import Clock

logger = logging.getLogger(__name__)

START_TIMEOUT_S: Final = 30.0
QUEUE_TIME_TIMEOUT_S: Final = 2.0
LIMITS_WAIT_S: Final = 2.0
"""How long a choice among backends waits for one that has not told its limits yet."""

QUEUE_TIME_KEPT_S: Final = 30.0
REJOIN_PAUSE_S: Final = 0.02


class QuantumJobPool:
    """Implements ``JobPool``. For one event loop; ``open`` lets callers in."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        ledger: Ledger,
        workers: Workers,
        clock: Clock,
        metrics: JobMetrics,
        provenances: Mapping[str, Provenance],
    ) -> None:
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._workers = workers
        self._clock = clock
        self._metrics = metrics
        self._provenances = provenances
        self._opened = asyncio.Event()
        self._callers: dict[str, asyncio.Task[object]] = {}
        self._waits_for: dict[str, list[Run]] = {}
        self._queue_times: dict[str, tuple[float, float]] = {}

    def open(self) -> None:
        """Take up what an earlier process left, and let callers in. Call it once the ledger has been read."""
        self._dispatcher.resume(list(self._ledger.open.values()))
        self._opened.set()

    async def limits(self, backend: str) -> BackendLimits:
        """See ``JobPool.limits``. Asked of the backend once."""
        return await self.lane(backend).learn(lambda: self._workers.limits(backend), self._clock.monotonic_s)

    async def conditions(self) -> dict[str, Condition]:
        """See ``JobPool.conditions``."""
        found = {}
        for name, lane in self._dispatcher.lanes.items():
            try:
                async with asyncio.timeout(LIMITS_WAIT_S):
                    limits = await self.limits(name)
            except (QuantumDBError, TimeoutError):
                continue  # what does not tell its limits cannot be chosen
            wait_s = self._dispatcher.wait_s(name) + (0.0 if lane.local else await self._provider_queue_s(name))
            found[name] = Condition(limits, self._provenances[name], lane.breaker.state, wait_s, lane.mean_s)
        return found

    async def loads(self) -> dict[str, LaneLoad]:
        """Return what each backend asks of the workers: nothing, where its breaker is open, for what waits."""
        found = {}
        for name, (in_flight, waiting) in self._dispatcher.depths().items():
            lane = self._dispatcher.lanes[name]
            queue_s = await self._provider_queue_s(name) if not lane.local and in_flight + waiting else 0.0
            waits = waiting * (lane.breaker.state == "closed")
            found[name] = LaneLoad(in_flight, waits, lane.mean_runs, lane.mean_s, queue_s)
        return found

    async def run(self, request: JobRequest, *, patient: bool = False) -> BackendResult:
        """See ``JobPool.run``.

        Args:
            patient: wait on while the outcome is unclear, the provider does not answer or the breaker is open, until
                the deadline.
        """
        task = asyncio.current_task()
        assert task is not None
        self._callers[request.key] = task
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._run(request, patient)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the quantum work on {request.backend} did not end within {request.timeout_s:.3g} s"
            ) from None
        except QuantumDBError as error:
            if error.status in (402, 503):
                self._metrics.refused(request.backend, error)
            raise
        finally:
            self._callers.pop(request.key, None)

    def leave(self, key: str) -> None:
        """Note that the caller of a request has left. Idempotent."""
        if (task := self._callers.get(key)) is not None:
            task.cancel()

    def lane(self, backend: str) -> Lane:
        """Return what is known of a backend. Raises InvalidRequest when there is none of this name."""
        lanes = self._dispatcher.lanes
        if backend not in lanes:
            message = f"there is no backend {backend!r}; there are {', '.join(lanes)}{near_name(backend, lanes)}"
            raise InvalidRequest.at("backend", message)
        return lanes[backend]

    def backends(self) -> dict[str, Any]:
        """Return the state of each backend, for people."""
        depths = self._dispatcher.depths()
        return {
            name: {
                "kind": "simulator" if lane.local else "provider",
                "provenance": self._provenances[name],
                "breaker": lane.breaker.state,
                "override": lane.breaker.override,
                "in_flight": depths[name][0],
                "waiting": depths[name][1],
                "predicted_wait_s": self._dispatcher.wait_s(name),
                "mean_job_s": lane.mean_s,
            }
            for name, lane in self._dispatcher.lanes.items()
        }

    def force_breaker(self, backend: str, override: Override) -> None:
        """Set a backend's breaker by hand; ``auto`` gives it back. Idempotent. Raises InvalidRequest."""
        self.lane(backend)
        self._dispatcher.force(backend, override)

    def estimate_usd(self, limits: BackendLimits, parts: Sequence[CircuitBatch], shots: int) -> float:
        """Return the price of circuits by the backend's published price model."""
        model = PRICE_MODELS[limits.price_model]
        return sum(
            model.cost_usd(
                len(part),
                shots,
                len(part.template.structure) - part.template.two_qubit_gates,
                part.template.two_qubit_gates,
            )
            for part in parts
        )

    async def quote(self, request: JobRequest) -> tuple[float, int]:
        """Return the price in USD and the shots of what would have to be run for a request now: not what is kept."""
        lane = self.lane(request.backend)
        limits = await self.limits(request.backend)
        usd, shots = 0.0, 0
        for draw, part in enumerate(draws_of(request.shots, limits.max_shots)):
            wish = self._wish(request, part, draw_name(0, draw))
            kept, joined = self._known(lane, wish)
            left = without(wish, {**kept, **joined})
            usd += self.estimate_usd(limits, left.parts, part)
            shots += part * len(left.digests)
        return usd, shots

    def check_day(self, tenant: str, backend: str, usd: float, shots: int) -> None:
        """Raise BudgetExceeded if a tenant's day does not cover this much more."""
        if not self.lane(backend).local:
            account = Account(tenant, day_of(self._clock.now_s()), backend)
            self._ledger.budgets.check(Charge(account, micro_of(usd), shots, 0))

    def left_today(self, tenant: str) -> dict[str, float | int | None]:
        """Return what is left of a tenant's day at paid backends, ``usd`` and ``shots``; None without a limit."""
        left = self._ledger.budgets.left(tenant, day_of(self._clock.now_s()))
        return {"usd": left.usd_per_day, "shots": left.shots_per_day}

    def provider_job_ids(self, request_key: str) -> list[str]:
        """Return the provider's ids of the jobs that a request waits for."""
        found = [self._dispatcher.job_ids(run) for run in self._waits_for.get(request_key, ())]
        return list(dict.fromkeys(job_id for ids in found for job_id in ids))

    def show(self) -> None:
        """Set the gauges."""
        for name, (in_flight, waiting) in self._dispatcher.depths().items():
            self._metrics.show(name, in_flight, waiting, self._dispatcher.lanes[name].breaker.state)

    async def close(self) -> None:
        """Let go of all work. What is at a provider is taken up at the next start."""
        await self._dispatcher.close()

    async def _run(self, request: JobRequest, patient: bool) -> BackendResult:
        await self._until_open()
        lane = self.lane(request.backend)
        limits = await self.limits(request.backend)
        one_job = min(request.shots, limits.max_shots)
        for part in request.parts:
            check_limits(request.backend, limits, [CircuitBatch(part.template, part.angles[:1])], one_job)
        if request.adaptive is None:
            return await self._in_draws(request, limits, patient)
        if lane.local:
            return await self._ask(request, request.shots, request.adaptive, patient)
        return await self._in_rounds(request, limits, patient)

    async def _until_open(self) -> None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._opened.wait()
        except TimeoutError:
            raise Unavailable("the job pool is still reading its journal", retry_after_s=5.0) from None

    async def _in_draws(
        self, request: JobRequest, limits: BackendLimits, patient: bool, first: Hashable = 0
    ) -> BackendResult:
        """Run as many shots as a job takes, in as many jobs as that needs."""
        results: list[BackendResult] = []
        limit = request.limit
        for draw, shots in enumerate(draws_of(request.shots, limits.max_shots)):
            result = await self._ask(replace(request, limit=limit), shots, draw_name(first, draw), patient)
            results.append(result)
            limit = limit.less(result.cost_usd, shots * len(result.counts))
        return results[0] if len(results) == 1 else sum_of(results)

    async def _in_rounds(self, request: JobRequest, limits: BackendLimits, patient: bool) -> BackendResult:
        """Run adaptive shots, each round as a job; where the limit is used up, by what is known then."""
        assert request.adaptive is not None
        limit, results = request.limit, list[BackendResult]()
        most = request.adaptive.max_shots if limit.max_shots is None else limit.max_shots
        aim = replace(request.adaptive, max_shots=min(request.adaptive.max_shots, most))
        rounds = adaptive_rounds(request.parts[0], aim)
        batch, shots = next(rounds)
        while True:
            part = replace(request, parts=(batch,), shots=shots, limit=limit, adaptive=None)
            counts: Sequence[Mapping[int, int]] | None = None
            try:
                result = await self._in_draws(part, limits, patient, first=("round", len(results)))
            except BudgetExceeded:
                if not results:
                    raise
            else:
                results.append(result)
                counts = result.counts
                limit = limit.less(result.cost_usd, shots * len(batch))
            try:
                batch, shots = rounds.send(counts)
            except StopIteration as end:
                return replace(sum_of(results), counts=end.value.counts, selection=end.value.selection)

    async def _ask(self, request: JobRequest, shots: int, draw: Hashable, patient: bool) -> BackendResult:
        """Answer from what is kept, wait for what is under way, and start the rest."""
        lane = self.lane(request.backend)
        wish = self._wish(request, shots, draw)
        if request.adaptive is not None:  # its selection is by the place of each circuit, so that none may be left out
            wish = Wish(wish.parts, tuple(f"{digest}.{place}" for place, digest in enumerate(wish.digests)))
        while True:
            kept, joined = self._known(lane, wish)
            own = self._make_runs(request, without(wish, {**kept, **joined}), shots)
            others = list({id(run): run for run in joined.values()}.values())
            try:
                outcomes = await self._wait_for(request.key, own, others, patient)
            except JobCanceled:
                if not others:
                    raise
                await asyncio.sleep(REJOIN_PAUSE_S)
                continue  # those who wanted it first have left just now: it is this caller's work from here on
            if kept:
                self._note_reuse(request, len(kept))
            cost_usd = sum(outcome.cost_usd for outcome in outcomes[: len(own)])
            cost_usd += sum(
                outcome.cost_usd * sum(other is run for other in joined.values()) / len(run.wish.digests)
                for run, outcome in zip(others, outcomes[len(own) :], strict=True)
                if run.orphan
            )
            return answer_of(wish, kept, outcomes, lane.name, cost_usd)

    def _wish(self, request: JobRequest, shots: int, draw: Hashable) -> Wish:
        identity = self.lane(request.backend).identity
        return wish_of(request.parts, tenant=request.tenant, identity=identity, shots=shots, draw=draw)

    def _known(self, lane: Lane, wish: Wish) -> tuple[dict[str, KeptResult], dict[str, Run]]:
        """Return the circuits that have results, and those that are queued or in flight."""
        kept: dict[str, KeptResult] = {}
        joined: dict[str, Run] = {}
        now_s = self._clock.now_s()
        for digest in set(wish.digests):
            run = self._dispatcher.run_of(digest)
            if run is not None:
                joined[digest] = run
            elif not lane.local and (found := self._ledger.kept(digest, now_s)) is not None:
                kept[digest] = found
        return kept, joined

    def _make_runs(self, request: JobRequest, wish: Wish, shots: int) -> list[Run]:
        """Return the runs of what has to be run, priced. Raises BudgetExceeded when the request's limit is too low."""
        lane = self.lane(request.backend)
        limits = lane.limits
        assert limits is not None
        if not wish.digests:
            return []
        exclusive = request.adaptive is not None
        pieces = [wish] if exclusive else chunks(wish, limits.max_circuits, limits.max_gates)
        prices = [self.estimate_usd(limits, piece.parts, shots) for piece in pieces]
        request.limit.check(sum(prices), shots * len(wish.digests))
        day = day_of(self._clock.now_s())
        return [
            Run(
                key=uuid4().hex,
                backend=lane.name,
                wish=piece,
                shots=shots,
                tenant=request.tenant,
                priority=request.priority,
                deadline_s=self._clock.monotonic_s() + request.timeout_s,
                charge=None
                if lane.local
                else Charge(
                    Account(request.tenant, day, lane.name),
                    micro_of(price),
                    shots * len(piece.digests),
                    len(piece.digests),
                ),
                adaptive=request.adaptive,
            )
            for piece, price in zip(pieces, prices, strict=True)
        ]

    async def _wait_for(self, key: str, own: list[Run], others: list[Run], patient: bool) -> list[Outcome]:
        """Start the own runs, and wait for all; whatever happens, leave all of them."""
        waited: list[Run] = []
        self._waits_for[key] = waited
        try:
            for run in own:
                self._dispatcher.join(run)
                waited.append(run)
                self._dispatcher.start(run, patient=patient)
            for run in others:
                self._dispatcher.join(run)
                waited.append(run)
            return await asyncio.gather(*(run.outcome(patient=patient) for run in waited))
        finally:
            del self._waits_for[key]
            for run in waited:
                self._dispatcher.leave(run)

    def _note_reuse(self, request: JobRequest, circuits: int) -> None:
        account = Account(request.tenant, day_of(self._clock.now_s()), request.backend)
        self._ledger.budgets.book(account, Spending(reused=circuits))
        self._metrics.reused(request.backend, circuits)

    async def _provider_queue_s(self, backend: str) -> float:
        """Return the provider's queue time, at most half a minute old; 0 while it does not tell."""
        told = self._queue_times.get(backend)
        now_s = self._clock.monotonic_s()
        if told is None or now_s - told[0] > QUEUE_TIME_KEPT_S:
            try:
                queue_s = await self._workers.queue_time_s(backend, timeout_s=QUEUE_TIME_TIMEOUT_S)
            except QuantumDBError:
                queue_s = 0.0
            told = self._queue_times[backend] = (now_s, queue_s)
        return told[1]
