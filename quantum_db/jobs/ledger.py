"""What the journal says of paid work: open submissions, kept results, stored jobs and what was spent.

Pure: records in, state out. The same ``apply`` runs when a record has become durable and when the journal is read after
a restart, so both give the same ledger. ``snapshot`` writes the ledger as records again, for compaction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import orjson

from quantum_db.errors import CorruptData
from quantum_db.jobs.budget import Account, Budgets, Charge, Spending, day_of
from quantum_db.model import Provenance

STREAM: Final = "jobs"
KEPT_DAYS: Final = 62
DAY_S: Final = 86_400.0

Json = dict[str, Any]
JobStatus = Literal["queued", "completed", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class OpenSubmission:
    """A job that may be at the provider.

    Attributes:
        qubits, digests: of each circuit, in order.
        charges: what is reserved for it, by the key of the reservation.
        at_s: when it was written down, in seconds since the epoch.
        job_id: at the provider, once that is known.
    """

    key: str
    backend: str
    shots: int
    qubits: tuple[int, ...]
    digests: tuple[str, ...]
    charges: Mapping[str, Charge]
    at_s: float
    job_id: str | None = None

    def intent(self) -> Json:
        """Return what has to be written before it is submitted."""
        return {
            "backend": self.backend,
            "shots": self.shots,
            "qubits": list(self.qubits),
            "digests": list(self.digests),
            "charges": {key: charge.record() for key, charge in self.charges.items()},
            "at_s": self.at_s,
        }


@dataclass(frozen=True, slots=True)
class KeptResult:
    """The counts of one circuit, kept so that the same question costs nothing: as JSON, which is far smaller."""

    packed: bytes
    provenance: Provenance
    job_id: str
    at_s: float

    def counts(self) -> dict[int, int]:
        """Return outcome -> number of shots."""
        return counts_of(orjson.loads(self.packed))


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A job that a user submitted and may ask for later.

    Attributes:
        work: what is to run, as JSON; empty once the job has ended.
        deadline_at_s, created_at_s, ended_at_s: seconds since the epoch.
        result: what its circuits gave, as the user sees it.
        error: why it failed: slug and detail.
        digest: of the request, if it has an idempotency key, which its id is made of.
    """

    id: str
    tenant: str
    backend: str
    shots: int
    circuits: int
    priority: str
    created_at_s: float
    deadline_at_s: float
    name: str | None = None
    work: Mapping[str, Any] | None = None
    status: JobStatus = "queued"
    ended_at_s: float | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, str] | None = None
    cost_usd: float = 0.0
    reused_circuits: int = 0
    provider_job_ids: tuple[str, ...] = ()
    provenance: Provenance | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """How long things are kept after they have ended, and how many at most.

    Attributes:
        results: circuits whose counts are kept.
        jobs: ended jobs that can still be asked for.
        kept_s: how long either is kept.
    """

    results: int = 100_000
    jobs: int = 10_000
    kept_s: float = 7 * DAY_S


class Ledger:
    """The state that the records describe."""

    def __init__(self, budgets: Budgets, retention: Retention) -> None:
        """Start empty; ``budgets`` is changed by what is applied here."""
        self.budgets = budgets
        self.open: dict[str, OpenSubmission] = {}
        self.jobs: OrderedDict[str, StoredJob] = OrderedDict()
        self._results: OrderedDict[str, KeptResult] = OrderedDict()
        self._retention = retention
        self.number = 0
        self.records_since_snapshot = 0

    def apply(self, number: int, record: Mapping[str, Any]) -> None:
        """Take in the record with this number. Idempotent for one that was written twice.

        Raises:
            CorruptData: it is not a record of this ledger.
        """
        try:
            getattr(self, _APPLY[record["t"]])(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptData(f"record {number} of the job journal cannot be understood: {error!r}") from error
        self.number = number
        self.records_since_snapshot += 1

    def kept(self, digest: str, now_s: float) -> KeptResult | None:
        """Return the result of a circuit, if it is known and not too old."""
        found = self._results.get(digest)
        if found is None or now_s - found.at_s > self._retention.kept_s:
            return None
        self._results.move_to_end(digest)
        return found

    def size(self) -> int:
        """Return how many records a snapshot would have, roughly."""
        return len(self.open) + len(self.jobs) + len(self._results)

    def forget_old(self, now_s: float) -> None:
        """Drop what is older or more than ``Retention`` says. Open work is never dropped."""
        limit_s = now_s - self._retention.kept_s
        for digest in [digest for digest, kept in self._results.items() if kept.at_s < limit_s]:
            del self._results[digest]
        ended = [job for job in self.jobs.values() if job.ended_at_s is not None]
        surplus = len(ended) - self._retention.jobs
        for place, job in enumerate(ended):
            if place < surplus or (job.ended_at_s or 0.0) < limit_s:
                del self.jobs[job.id]
        self.budgets.forget_before(day_of(now_s - KEPT_DAYS * DAY_S))

    def snapshot(self) -> Iterator[Json]:
        """Return the records that give this ledger when they are applied to an empty one.

        The state is taken now, the records are made as they are read: that may happen in another thread.
        """
        open_, jobs, results = list(self.open.values()), list(self.jobs.values()), list(self._results.items())
        accounts = self.budgets.accounts()

        def records() -> Iterator[Json]:
            for account, spent in accounts.items():
                yield {"t": "account", **asdict(account), **{name: getattr(spent, name) for name in _BOOKED}}
            for submission in open_:
                yield {"t": "intent", "key": submission.key, **submission.intent()}
                if submission.job_id is not None:
                    yield {"t": "accepted", "key": submission.key, "job_id": submission.job_id}
            for job in jobs:
                yield {"t": "job", **asdict(job)}
            for digest, kept in results:
                yield _result_record(digest, orjson.loads(kept.packed), kept.provenance, kept.job_id, kept.at_s)

        return records()

    def _account(self, record: Mapping[str, Any]) -> None:
        account = Account(record["tenant"], record["day"], record["backend"])
        self.budgets.book(account, Spending(**{name: int(record[name]) for name in _BOOKED}))

    def _intent(self, record: Mapping[str, Any]) -> None:
        charges = {key: Charge.of_record(raw) for key, raw in record["charges"].items()}
        self.open[record["key"]] = OpenSubmission(
            key=record["key"],
            backend=record["backend"],
            shots=int(record["shots"]),
            qubits=tuple(record["qubits"]),
            digests=tuple(record["digests"]),
            charges=charges,
            at_s=float(record["at_s"]),
        )
        for key, charge in charges.items():
            self.budgets.restore(key, charge)

    # A record whose answer was lost is written again, so one about a submission may find it ended.

    def _accepted(self, record: Mapping[str, Any]) -> None:
        submission = self.open.get(record["key"])
        if submission is not None:
            self.open[submission.key] = replace(submission, job_id=str(record["job_id"]))

    def _done(self, record: Mapping[str, Any]) -> None:
        submission = self.open.pop(record["key"], None)
        if submission is None:
            return
        for digest, counts in zip(submission.digests, record["counts"], strict=True):
            self._result(_result_record(digest, counts, record["provenance"], record["job_id"], record["at_s"]))
        for key, charge in submission.charges.items():
            self.budgets.settle(key, replace(charge, micro_usd=int(record["micro_usd"][key])))

    def _failed(self, record: Mapping[str, Any]) -> None:
        submission = self.open.pop(record["key"], None)
        for key in submission.charges if submission is not None else ():
            self.budgets.release(key)

    def _result(self, record: Mapping[str, Any]) -> None:
        self._results[record["digest"]] = KeptResult(
            orjson.dumps(record["counts"]), record["provenance"], record["job_id"], float(record["at_s"])
        )
        self._results.move_to_end(record["digest"])
        while len(self._results) > self._retention.results:
            self._results.popitem(last=False)

    def _job(self, record: Mapping[str, Any]) -> None:
        fields = {name: value for name, value in record.items() if name != "t"}
        fields["provider_job_ids"] = tuple(fields.get("provider_job_ids", ()))
        self.jobs[record["id"]] = StoredJob(**fields)

    def _job_end(self, record: Mapping[str, Any]) -> None:
        fields = {name: value for name, value in record.items() if name not in ("t", "id")}
        fields["provider_job_ids"] = tuple(fields.get("provider_job_ids", ()))
        self.jobs[record["id"]] = replace(self.jobs[record["id"]], work=None, **fields)


def counts_to_json(counts: Mapping[int, int]) -> dict[str, int]:
    """Return counts with their outcomes as decimal text."""
    return {str(outcome): number for outcome, number in counts.items()}


def counts_of(raw: Mapping[str, int]) -> dict[int, int]:
    """Return what ``counts_to_json`` made JSON of."""
    return {int(outcome): int(number) for outcome, number in raw.items()}


def _result_record(digest: str, counts: Mapping[str, int], provenance: Provenance, job_id: str, at_s: float) -> Json:
    return {"t": "result", "digest": digest, "counts": counts, "provenance": provenance, "job_id": job_id, "at_s": at_s}


_BOOKED: Final = ("micro_usd", "shots", "circuits", "jobs", "reused")
_APPLY: Final[Mapping[str, str]] = {
    "account": "_account",
    "intent": "_intent",
    "accepted": "_accepted",
    "done": "_done",
    "failed": "_failed",
    "result": "_result",
    "job": "_job",
    "job_end": "_job_end",
}
