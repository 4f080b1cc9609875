"""IonQ, or the emulator, as a ``QuantumBackend``: qiskit-ionq's conversion over a client that is safe to use.

``IonQProvider`` is not used: it asks IonQ's public host for qubit counts, whatever URL it was given, and falls back to
4 qubits. Its backend class is built here from what the configured URL tells, so neither ``IONQ_API_URL`` nor
``QISKIT_IONQ_API_URL`` matters, and nothing in the environment is read or changed.
"""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import numpy as np
import qiskit_ionq
from dotenv import dotenv_values
from qiskit import QuantumCircuit
from qiskit_ionq import IonQProvider, ionq_backend
from qiskit_ionq.constants import ErrorMitigation
from qiskit_ionq.exceptions import IonQError, IonQTranspileLevelWarning
from qiskit_ionq.ionq_job import IonQJob

from quantum_db.circuits.drawing import to_qiskit
from quantum_db.circuits.noise import ARIA_1, FORTE_1, IDEAL, NoiseModel
from quantum_db.circuits.simulator import check_limits
from quantum_db.circuits.template import ROTATION_GATES, CircuitBatch, Template
from quantum_db.errors import DeadlineExceeded, InvalidCircuit, InvalidSettings, JobFailed, Unavailable
from quantum_db.ionq.client import BoundedClient, RefusedError, UnclearError
from quantum_db.ionq.pricing import FREE, PriceModel
from quantum_db.ionq.results import Distribution, as_counts, distributions, rounded_counts
from quantum_db.model import Provenance
from quantum_db.ports import BackendLimits, BackendResult, Clock

MAX_CIRCUITS: Final = 5_000
MAX_GATES: Final = 150_000
MAX_QPU_SHOTS: Final = 10_000
MAX_SIMULATOR_SHOTS: Final = 1_000_000
JOB_KEY: Final = "job_key"
_QIS_GATES: Final = ROTATION_GATES | {"cx", "h"}

LIMITS_TIMEOUT_S: Final = 10.0
CANCEL_TIMEOUT_S: Final = 2.0
LOOKUP_TIMEOUT_S: Final = 5.0
LOOKUP_PAUSES_S: Final = (0.0, 0.25, 1.0)
LOOKUP_PAGES: Final = 10
PAGE: Final = 100

_PENDING: Final = frozenset({"submitted", "ready", "started"})
_LOST: Final = frozenset({"failed", "canceled"})
_DOTENV_KEYS: Final = frozenset(
    {"QISKIT_IONQ_API_URL", "IONQ_API_URL", "QISKIT_IONQ_API_TOKEN", "IONQ_API_TOKEN", "IONQ_API_KEY"}
)

log = logging.getLogger(__name__)


class _Target(ionq_backend.IonQBackend):
    """What qiskit-ionq's conversion wants to know of a backend."""

    def __init__(self, target: str, num_qubits: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", IonQTranspileLevelWarning)  # nothing is transpiled here
            super().__init__(
                provider=cast(IonQProvider, None),  # it is only asked for a client, and jobs are given one
                name=f"ionq_{target}",
                description=f"IonQ {target}",
                gateset="qis",
                num_qubits=num_qubits,
                simulator=target == "simulator",
            )


class IonQBackend:
    """Implements ``QuantumBackend`` over IonQ's API v0.4. May be shared by threads."""

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
        poll_s: tuple[float, float] = (0.01, 1.0),
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
            poll_s: the first and the longest pause between two looks at a job.
            error_mitigation: whether a ``qpu`` target debiases, which its price model must reflect. Always said
                explicitly, because IonQ's own default changes with the shots.

        Raises:
            InvalidSettings: the URL or the key cannot be used, or a ``.env`` file would override them.
        """
        if not re.fullmatch(r"https?://[^/?#\s]+(/[^?#\s]*)?/v\d+\.\d+/?", url):
            raise InvalidSettings(f"the IonQ URL must end with the API's version, like /v0.4; it is {url!r}")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise InvalidSettings("the IonQ API key is empty or has characters that cannot be in a header")
        if not re.fullmatch(r"simulator|qpu\.[a-z0-9.-]+", target):
            raise InvalidSettings(f"the IonQ target must be simulator or like qpu.forte-1; it is {target!r}")
        refuse_dotenv(Path(qiskit_ionq.__file__))
        self._name = name
        self._target = target
        self._price_model = price_model if target != "simulator" else FREE
        self._provenance = _provenance(url, target)
        self._clock = clock
        self._rng = rng
        self._rng_lock = threading.Lock()
        self._poll_s = poll_s
        self._error_mitigation = error_mitigation
        self._client = BoundedClient(token, url, clock=clock)
        self._known: tuple[BackendLimits, _Target] | None = None

    def __repr__(self) -> str:
        return f"IonQBackend({self._name!r}, {self._target!r}, {self._client!r})"

    @property
    def name(self) -> str:
        """See ``QuantumBackend.name``."""
        return self._name

    @property
    def limits(self) -> BackendLimits:
        """See ``QuantumBackend.limits``. Asked of the provider once.

        Raises:
            Unavailable: it does not tell within ``LIMITS_TIMEOUT_S``.
            InvalidSettings: it has no such target.
        """
        return self._learn(self._client.until(self._clock.monotonic_s() + LIMITS_TIMEOUT_S))[0]

    def run(self, batch: CircuitBatch, shots: int, *, job_key: str, timeout_s: float) -> BackendResult:
        """Run the batch as one job, submitted once; see ``QuantumBackend.run``.

        When the answer to the submission is lost, the job is looked for at the provider by its key. If it is not
        found there, the outcome is unclear: Unavailable says so, and ``recover`` can look again later.

        To find a lost job and to cancel one, ``CANCEL_TIMEOUT_S`` each may be spent beyond ``timeout_s``.
        """
        client = self._client.until(self._clock.monotonic_s() + timeout_s)
        limits, target = self._learn(client)
        check_limits(self._name, limits, batch, shots)
        try:
            job_id = self._submit(client, target, batch, shots, job_key)
        except UnclearError as unclear:
            job_id = self._adopt(client, job_key, unclear)
        return self._collect(client, job_id, batch, shots)

    def recover(self, batch: CircuitBatch, shots: int, *, job_key: str, timeout_s: float) -> BackendResult | None:
        """Return the result of a job that was submitted earlier under this key, or None if the provider has none.

        For use after a crash or an unclear submission, before the work is submitted again. Submits nothing; raises
        what ``run`` raises.
        """
        client = self._client.until(self._clock.monotonic_s() + timeout_s)
        try:
            job_id = self._find(client, job_key)
        except RefusedError as error:
            raise JobFailed(f"the provider refused to list jobs: {error.detail}") from error
        return None if job_id is None else self._collect(client, job_id, batch, shots)

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._client.close()

    def _learn(self, client: BoundedClient) -> tuple[BackendLimits, _Target]:
        """Return the limits, and the target built from them."""
        if self._known is None:
            try:
                qubits = client.backend(self._target).get("qubits")
            except RefusedError as error:
                if error.status == 404:
                    raise InvalidSettings(f"the provider has no target {self._target!r}: {error.detail}") from error
                raise Unavailable(f"the provider does not describe {self._target}: {error.detail}") from error
            if isinstance(qubits, bool) or not isinstance(qubits, int) or qubits < 1:
                raise Unavailable(f"the provider does not say how many qubits {self._target} has")
            shots = MAX_SIMULATOR_SHOTS if self._target == "simulator" else MAX_QPU_SHOTS
            noise = _published_noise(self._target)
            limits = BackendLimits(
                qubits,
                MAX_CIRCUITS,
                MAX_GATES,
                shots,
                price_model=self._price_model.name,
                one_qubit_fidelity=noise.one_qubit_fidelity,
                two_qubit_fidelity=noise.two_qubit_fidelity,
            )
            self._known = limits, _Target(self._target, qubits)
        return self._known

    def _submit(self, client: BoundedClient, target: _Target, batch: CircuitBatch, shots: int, job_key: str) -> str:
        circuits = _circuits(batch)
        arguments: dict[str, Any] = {"shots": shots, "sampler_seed": None, "extra_metadata": {JOB_KEY: job_key}}
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

    def _adopt(self, client: BoundedClient, job_key: str, unclear: UnclearError) -> str:
        """Return the job of this key, looking a few times because a listing may lag behind."""
        # Even if the deadline has passed there is a little time to find the job, so that it can be canceled.
        end_s = self._clock.monotonic_s() + max(CANCEL_TIMEOUT_S, min(LOOKUP_TIMEOUT_S, client.left_s))
        lookup = self._client.until(end_s)
        try:
            for pause_s in LOOKUP_PAUSES_S:
                lookup.pause(pause_s)
                job_id = self._find(lookup, job_key)
                if job_id is not None:
                    log.warning("job %s: the answer to its submission was lost; it was found by its key", job_id)
                    return job_id
            why = "no job with this key is listed"
        except (Unavailable, DeadlineExceeded, RefusedError) as error:
            why = f"jobs could not be listed: {error.detail}"
        raise Unavailable(
            f"the outcome of the submission of job key {job_key} is unclear: {unclear.detail}; {why}",
            retry_after_s=unclear.retry_after_s,
        ) from unclear

    def _find(self, client: BoundedClient, job_key: str) -> str | None:
        """Return the newest job of this key, one that failed or was canceled only if there is no other."""
        lost: str | None = None
        cursor: str | None = None
        for _ in range(LOOKUP_PAGES):
            params: dict[str, Any] = {"target": self._target, "limit": PAGE}
            page = client.list_jobs(params if cursor is None else {**params, "next": cursor})
            for job in filter(partial(_has_key, job_key=job_key), page.get("jobs") or []):
                if job.get("status") not in _LOST:
                    return str(job["id"])
                lost = lost or str(job["id"])
            cursor = page.get("next")
            if cursor is None:
                break
        return lost

    def _collect(self, client: BoundedClient, job_id: str, batch: CircuitBatch, shots: int) -> BackendResult:
        """Wait for the job and return its counts; cancel it when the time is up."""
        try:
            job = self._wait(client, job_id)
            found = client.get_results(_results_url(job))
        except (DeadlineExceeded, Unavailable):
            self._cancel(job_id)
            raise
        except RefusedError as error:
            raise JobFailed(f"the provider gives no result of job {job_id}: {error.detail}") from error
        except ValueError as error:  # not JSON
            self._cancel(job_id)
            raise Unavailable(f"the answer about job {job_id} cannot be read: {client.clean(error)}") from error
        measured = distributions(found, len(batch), batch.template.num_qubits, job_id)
        one_qubit_gates = len(batch.template.structure) - batch.template.two_qubit_gates
        return BackendResult(
            counts=self._counts(measured, shots),
            provenance=self._provenance,
            backend=self._name,
            cost_usd=self._price_model.cost_usd(len(batch), shots, one_qubit_gates, batch.template.two_qubit_gates),
            provider_job_ids=(job_id,),
        )

    def _wait(self, client: BoundedClient, job_id: str) -> Mapping[str, Any]:
        pause_s, longest_s = self._poll_s
        while True:
            job = client.retrieve_job(job_id)
            status = job.get("status") if isinstance(job, dict) else None
            if status == "completed":
                return dict(job)
            if status == "failed":
                failure = job.get("failure") or {}
                text = failure.get("message") or failure.get("error") or "no reason given"
                raise JobFailed(f"job {job_id} failed: {client.clean(failure.get('code'))}: {client.clean(text)}")
            if status not in _PENDING:
                raise JobFailed(f"job {job_id} has the status {client.clean(status)}")
            if client.left_s <= pause_s:
                raise DeadlineExceeded(f"job {job_id} was {status} when the deadline passed")
            client.pause(pause_s)
            pause_s = min(1.5 * pause_s, longest_s)

    def _cancel(self, job_id: str) -> None:
        """Cancel the job if that is possible within a short time of its own."""
        try:
            self._client.until(self._clock.monotonic_s() + CANCEL_TIMEOUT_S).cancel_job(job_id)
        except RefusedError as error:
            log.info("job %s was not canceled: %s", job_id, error.detail)  # it has ended by itself
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("job %s could not be canceled: %s", job_id, error.detail)

    def _counts(self, measured: Sequence[Distribution], shots: int) -> tuple[Mapping[int, int], ...]:
        if self._target != "simulator":
            return tuple(rounded_counts(outcomes, probabilities, shots) for outcomes, probabilities in measured)
        with self._rng_lock:
            streams = self._rng.spawn(len(measured))
        return tuple(
            as_counts(outcomes, stream.multinomial(shots, probabilities))
            for stream, (outcomes, probabilities) in zip(streams, measured, strict=True)
        )


def refuse_dotenv(start: Path) -> None:
    """Refuse a ``.env`` file that qiskit-ionq would find from its own folder upward and prefer to the configuration.

    This backend does not read it. But any other use of qiskit-ionq in the process would silently go to another place
    with another key, so it is better to know.

    Raises:
        InvalidSettings: such a file sets the URL or the key; the message names the keys.
    """
    for folder in start.resolve().parents:
        path = folder / ".env"
        if path.is_file():
            found = sorted(_DOTENV_KEYS & dotenv_values(path, interpolate=False).keys())
            if found:
                raise InvalidSettings(
                    f"{path} sets {', '.join(found)}, which qiskit-ionq prefers to other settings; remove them there"
                )
            return  # qiskit-ionq looks no further either


def _provenance(url: str, target: str) -> Provenance:
    host = urlsplit(url).hostname or ""
    if not host.endswith((".ionq.co", ".ionq.com")):
        return "emulator"
    return "simulated shots" if target == "simulator" else "hardware"


def _circuits(batch: CircuitBatch) -> list[QuantumCircuit]:
    """Return the batch for qiskit, all circuits from one structure."""
    structure = _structure(batch.template)
    return [structure.assign_parameters(row.tolist()) for row in batch.template.gate_angles(batch.angles)]


@lru_cache(maxsize=64)
def _structure(template: Template) -> QuantumCircuit:
    """Return the structure with its angles as parameters; all its gates have a name in IonQ's QIS gate set.

    All structures have one name: results go by order, and the header that repeats it then compresses well.
    """
    unknown = {name for name, _ in template.structure} - _QIS_GATES
    if unknown:
        raise InvalidCircuit(f"the gate {min(unknown)!r} cannot be written for IonQ")
    circuit = to_qiskit(template)
    circuit.name = "circuit"
    return circuit


def _published_noise(target: str) -> NoiseModel:
    """Return the published model of the machine that IonQ calls ``target``; ideal for the simulator."""
    if target.startswith("qpu.aria"):
        return ARIA_1
    return FORTE_1 if target.startswith("qpu.forte") else IDEAL


def _has_key(job: object, job_key: str) -> bool:
    """Whether this is the job itself and not the child of one: children repeat the metadata."""
    if not isinstance(job, dict) or job.get("parent_job_id") is not None:
        return False
    metadata = job.get("metadata")
    return isinstance(metadata, dict) and metadata.get(JOB_KEY) == job_key


def _results_url(job: Mapping[str, Any]) -> str:
    url = ((job.get("results") or {}).get("probabilities") or {}).get("url")
    if not isinstance(url, str):
        raise JobFailed(f"job {job.get('id')} is completed without probabilities")
    return url
