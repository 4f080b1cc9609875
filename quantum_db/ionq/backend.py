"""IonQ, or the emulator, as a ``QuantumProvider``: qiskit-ionq's conversion over a client that is safe to use."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any, Final, TypeVar

import numpy as np
from qiskit_ionq.constants import ErrorMitigation
from qiskit_ionq.exceptions import IonQError
from qiskit_ionq.ionq_job import IonQJob

from quantum_db.backend_ports import NO_LABELS, BackendLimits, BackendResult, Collected, JobEstimate, ProviderJob
from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import CircuitBatch, Template
from quantum_db.errors import (
    DeadlineExceeded,
    InvalidCircuit,
    InvalidSettings,
    JobCanceled,
    JobFailed,
    Unavailable,
)
from quantum_db.ionq import answers
from quantum_db.ionq.client import BoundedClient, RefusedError
from quantum_db.ionq.payload import metadata, qiskit_circuits
from quantum_db.ionq.pricing import FREE, PriceModel
from quantum_db.ionq.provenance import provenance_of
from quantum_db.ionq.results import (
    Distribution,
    as_counts,
    distributions,
    in_agreed_order,
    in_order_of_names,
    rounded_counts,
    rows_by_child,
)
from quantum_db.ionq.target import Target, check_settings, limits_of
from quantum_db.jobs.retry import RetryPolicy
from quantum_db.ports import Clock

RETRY: Final = RetryPolicy()
POLL_S: Final = (0.01, 1.0)
"""The first and the longest pause between two looks at a job."""

POLL_GROWTH: Final = 1.25
"""From one pause to the next: a job's end is seen late by at most a quarter of the time that it took."""

LIMITS_TIMEOUT_S: Final = 10.0
LOOKUP_PAGES: Final = 50
PAGE: Final = 100
CLOCK_SKEW_S: Final = 600.0
"""How far the provider's clock may be from this one."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class IonQBackend:
    """Implements ``QuantumProvider`` over IonQ's API v0.4. May be shared by threads."""

    def __init__(
        self,
        name: str = "ionq",
        *,
        url: str,
        token: str,
        target: str = "simulator",
        price_model: PriceModel = FREE,
        clock: Clock,
        rng: np.random.Generator,
        retry: RetryPolicy = RETRY,
        error_mitigation: bool = False,
    ) -> None:
        """Check the settings; nothing is asked of the provider yet.

        Args:
            name: what queries choose it by.
            url: the API's base with its version, like ``https://api.ionq.co/v0.4``.
            token: the API key.
            target: IonQ's name of the machine.
            price_model: prices the jobs of a ``qpu`` target; the simulator is free.
            clock: for deadlines.
            rng: draws the shots of the simulator target; each circuit has a stream spawned from it.
            retry: how often a read is tried, and after which pauses. A submission is never sent again.
            error_mitigation: whether a ``qpu`` target debiases, which its price model must reflect. Always said
                explicitly, because IonQ's own default changes with the shots.

        Raises:
            InvalidSettings: the URL or the key cannot be used, or a ``.env`` file would override them.
        """
        check_settings(url, token, target)
        self._name = name
        self._target = target
        self._price_model = price_model if target != "simulator" else FREE
        self._provenance = provenance_of(url, target)
        self._clock = clock
        self._rng = rng
        self._rng_lock = threading.Lock()
        self._error_mitigation = error_mitigation
        self._client = BoundedClient(token, url, clock=clock, rng=rng.spawn(1)[0], retry=retry)
        self._known: tuple[BackendLimits, Target] | None = None

    def __repr__(self) -> str:
        return f"IonQBackend({self._name!r}, {self._target!r}, {self._client!r})"

    @property
    def name(self) -> str:
        """See ``QuantumProvider.name``."""
        return self._name

    @property
    def limits(self) -> BackendLimits:
        """See ``QuantumProvider.limits``. Asked of the provider once.

        Raises:
            Unavailable: it does not tell within ``LIMITS_TIMEOUT_S``.
            InvalidSettings: it has no such target.
        """
        return self._learn(self._client.until(self._clock.monotonic_s() + LIMITS_TIMEOUT_S))[0]

    def submit(
        self,
        parts: Sequence[CircuitBatch],
        shots: int,
        *,
        job_key: str,
        timeout_s: float,
        labels: Mapping[str, str] = NO_LABELS,
    ) -> str:
        """Submit once; see ``QuantumProvider.submit``. The labels go to the job's metadata, beside the key.

        Raises InvalidSettings as well: the provider has no such target.
        """
        client = self._until(timeout_s)
        if client.left_s <= 0.0:
            raise DeadlineExceeded("no time was left to submit the job; nothing was sent")
        limits, target = self._learn(client)
        check_limits(self._name, limits, parts, shots)
        circuits = [circuit for part in parts for circuit in qiskit_circuits(part)]
        arguments: dict[str, Any] = {"shots": shots, "extra_metadata": metadata(job_key, labels)}
        if self._target != "simulator":
            mitigation = ErrorMitigation.DEBIASING if self._error_mitigation else ErrorMitigation.NO_DEBIASING
            arguments["error_mitigation"] = mitigation
        try:
            job = IonQJob(
                target, client=client, circuit=circuits if len(circuits) > 1 else circuits[0], passed_args=arguments
            )
            job.submit()
        except RefusedError as error:
            raise JobFailed(f"the provider refused the job: {error.detail}") from error
        except IonQError as error:  # of the conversion; these do not all unpickle
            raise InvalidCircuit(f"the circuits cannot be written for IonQ: {client.clean(error)}") from error
        return str(job.job_id())

    def find(self, job_key: str, *, timeout_s: float, since_s: float = 0.0) -> tuple[ProviderJob, ...]:
        """List jobs, the newest first as IonQ has them, and pick those of the key; see ``QuantumProvider.find``."""
        client = self._until(timeout_s)
        found: dict[str, ProviderJob] = {}
        cursor: str | None = None
        for _ in range(LOOKUP_PAGES):
            try:
                jobs, cursor = client.list_jobs({"target": self._target, "limit": PAGE}, cursor)
            except RefusedError as error:
                raise JobFailed(f"the provider refused to list jobs: {error.detail}") from error
            for job in jobs:
                if answers.has_key(job, job_key):
                    found[str(job["id"])] = ProviderJob(str(job["id"]), answers.status(job))
            if cursor is None or any(answers.was_submitted_before(job, since_s - CLOCK_SKEW_S) for job in jobs):
                return tuple(found.values())
        if not found:
            raise Unavailable(f"none of the newest {LOOKUP_PAGES * PAGE} jobs has the key {job_key}; there are more")
        return tuple(found.values())

    def collect(self, job_id: str, qubits: Sequence[int], shots: int, *, timeout_s: float) -> Collected:
        """Wait for a job and return its counts; see ``QuantumProvider.collect``.

        Each circuit of the simulator target has its shots drawn here, anew each time that a job is collected.
        """
        client = self._until(timeout_s)
        try:
            job = self._poll(client, partial(client.retrieve_job, job_id), answers.has_ended)
            self._check_completed(job, job_id)
            rows = rows_by_child(client.get_results(answers.results_url(job)), len(qubits), job_id)
            ordered = in_agreed_order(rows, job.get("child_job_ids"))
            if ordered is None:
                ordered = in_order_of_names(rows, self._children(client, job_id, len(rows)), job_id)
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise JobFailed(f"the provider has no result of job {job_id}: {error.detail}") from error
            raise Unavailable(f"the provider does not tell of job {job_id}: {error.detail}") from error
        counts = self._counts(distributions(ordered, qubits, job_id), shots)
        told_usd = self._told_cost_usd(client, job_id)
        cost_usd = self._list_price_usd(job, len(qubits), shots) if told_usd is None else told_usd
        return Collected(BackendResult(counts, self._provenance, self._name, cost_usd, (job_id,)), told_usd)

    def cancel(self, job_id: str, *, timeout_s: float) -> bool:
        """Ask for the end of a job and wait for it; see ``QuantumProvider.cancel``.

        What counts is the job's status afterwards: a provider may refuse because the job has ended, or accept although
        it has.
        """
        client = self._until(timeout_s)
        refusal = "it goes on"
        try:
            client.cancel_job(job_id)
        except RefusedError as error:
            refusal = error.detail
        try:
            job = self._poll(client, partial(client.retrieve_job, job_id), answers.has_ended)
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return False
            raise Unavailable(f"the provider does not tell of job {job_id}: {error.detail}") from error
        if not answers.has_ended(job):
            raise Unavailable(f"job {job_id} is not canceled: {refusal}")
        return answers.status(job) == "canceled"

    def estimate(self, parts: Sequence[CircuitBatch], shots: int, *, timeout_s: float) -> JobEstimate:
        """Sum the estimates of the circuits, one call for each structure; see ``QuantumProvider.estimate``."""
        client = self._until(timeout_s)
        circuits: Counter[Template] = Counter()
        for part in parts:
            circuits[part.template] += len(part)
        try:
            found = [(count, self._estimate(client, template, shots)) for template, count in circuits.items()]
        except RefusedError as error:
            raise JobFailed(f"the provider refused to estimate the job: {error.detail}") from error
        waits_s = [one.wait_s for _, one in found if one.wait_s is not None]
        runs_s = [count * one.run_s for count, one in found if one.run_s is not None]
        return JobEstimate(
            cost_usd=sum(count * one.cost_usd for count, one in found),
            wait_s=max(waits_s, default=None),
            run_s=sum(runs_s) if len(runs_s) == len(found) else None,
        )

    def queue_time_s(self, *, timeout_s: float) -> float:
        """Return the target's average queue time; see ``QuantumProvider.queue_time_s``."""
        told_s = answers.seconds(self._describe(self._until(timeout_s)), "average_queue_time")
        if told_s is None:
            raise Unavailable(f"the provider does not say how long the queue of {self._target} is")
        return told_s

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def _until(self, timeout_s: float) -> BoundedClient:
        return self._client.until(self._clock.monotonic_s() + timeout_s)

    def _describe(self, client: BoundedClient) -> answers.Answer:
        """Return the provider's description of the target. Raises Unavailable; InvalidSettings if it has none."""
        try:
            return client.backend(self._target)
        except RefusedError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise InvalidSettings(f"the provider has no target {self._target!r}: {error.detail}") from error
            raise Unavailable(f"the provider does not describe {self._target}: {error.detail}") from error

    def _learn(self, client: BoundedClient) -> tuple[BackendLimits, Target]:
        """Return the limits, and the target built from them."""
        if self._known is None:
            qubits = self._describe(client).get("qubits")
            if isinstance(qubits, bool) or not isinstance(qubits, int) or qubits < 1:
                raise Unavailable(f"the provider does not say how many qubits {self._target} has")
            self._known = limits_of(self._target, qubits, self._price_model), Target(self._target, qubits)
        return self._known

    def _poll(self, client: BoundedClient, look: Callable[[], T], enough: Callable[[T], bool]) -> T:
        """Look until it is enough, in growing pauses; return what was seen last before the deadline."""
        pause_s, longest_s = POLL_S
        while True:
            seen = look()
            if enough(seen) or client.left_s <= pause_s:
                return seen
            client.pause(pause_s)
            pause_s = min(POLL_GROWTH * pause_s, longest_s)

    def _check_completed(self, job: answers.Answer, job_id: str) -> None:
        status = answers.status(job)
        if status == "failed":
            code, text = (answers.at(job, "failure", name) for name in ("code", "message"))
            text = text or answers.at(job, "failure", "error") or "no reason given"
            raise JobFailed(f"job {job_id} failed: {self._client.clean(code)}: {self._client.clean(text)}")
        if status == "canceled":
            raise JobCanceled(f"job {job_id} was canceled")
        if status != "completed":
            raise DeadlineExceeded(f"job {job_id} was {self._client.clean(status)} when the deadline passed")

    def _children(self, client: BoundedClient, job_id: str, circuits: int) -> list[answers.Answer]:
        """Return the jobs of a job's circuits, waiting for a list that lags behind."""

        def look() -> list[answers.Answer]:
            found: dict[str, answers.Answer] = {}
            cursor: str | None = None
            for _ in range(circuits):  # a page has one child at least
                jobs, cursor = client.list_jobs({"parent_job_id": job_id, "limit": PAGE}, cursor)
                found.update({str(job["id"]): job for job in jobs if job.get("parent_job_id") == job_id})
                if cursor is None:
                    break
            return list(found.values())

        children = self._poll(client, look, lambda found: len(found) >= circuits)
        if len(children) < circuits:
            raise Unavailable(f"as yet {len(children)} of the {circuits} circuits of job {job_id} are listed")
        return children

    def _told_cost_usd(self, client: BoundedClient, job_id: str) -> float | None:
        """Return what the provider says that the job cost. Counts are not lost because it says nothing."""
        if self._target == "simulator":
            return None
        try:
            return answers.cost_usd(client.cost(job_id))
        except (Unavailable, RefusedError) as error:
            log.warning("job %s: the provider does not tell its cost: %s", job_id, error.detail)
            return None

    def _list_price_usd(self, job: answers.Answer, circuits: int, shots: int) -> float:
        one_qubit, two_qubit = answers.gates(job)
        return self._price_model.cost_usd(circuits, shots, one_qubit / circuits, two_qubit / circuits)

    def _estimate(self, client: BoundedClient, template: Template, shots: int) -> JobEstimate:
        """Return the estimate for one circuit."""
        found = client.estimate(
            {
                "type": "ionq.circuit.v1",
                "backend": self._target,
                "1q_gates": len(template.structure) - template.two_qubit_gates,
                "2q_gates": template.two_qubit_gates,
                "qubits": template.num_qubits,
                "shots": shots,
                "error_mitigation": str(self._error_mitigation).lower(),
            }
        )
        cost_usd = answers.estimated_usd(found)
        if cost_usd is None:
            raise Unavailable("the provider does not estimate the cost in USD")
        wait_s = answers.seconds(found, "current_predicted_queue_time")
        return JobEstimate(cost_usd, wait_s, answers.seconds(found, "estimated_execution_time"))

    def _counts(self, measured: Sequence[Distribution], shots: int) -> tuple[Mapping[int, int], ...]:
        if self._target != "simulator":
            return tuple(rounded_counts(outcomes, probabilities, shots) for outcomes, probabilities in measured)
        with self._rng_lock:
            streams = self._rng.spawn(len(measured))
        return tuple(
            as_counts(outcomes, stream.multinomial(shots, probabilities))
            for stream, (outcomes, probabilities) in zip(streams, measured, strict=True)
        )
