"""What the journal says of commits: numbers given out, transactions to be finished, and answers kept by key.

Pure: records in, state out, the same after a restart as before. Each record may be applied again after a snapshot that
has it already: a compaction may stand for less of the stream than the ledger knew.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from quantum_db.commits.operations import Deletes, Transaction
from quantum_db.commits.planning import Plan
from quantum_db.commits.records import entity_of, entity_record, group_of, group_record
from quantum_db.errors import CorruptData
from quantum_db.model import EntanglementGroup, Entity

STREAM: Final = "commits"
DAY_S: Final = 86_400.0
_ABORTED: Final = 10_000

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Intent:
    """A transaction with all that it changes, as it is written down: from then on it takes place, whatever happens.

    Attributes:
        commit: its number, which is the version of all that it writes.
        at_s: when it was planned, in seconds since the epoch.
        key, digest: the caller's name for it and what tells it from another one, if it has a name.
        groups: with their versions.
        collection: the key of the collection that it changes.
    """

    commit: int
    at_s: float
    key: str | None
    digest: str
    upserts: tuple[Entity, ...]
    deletes: tuple[str, ...]
    groups: tuple[EntanglementGroup, ...]
    results: tuple[Json, ...]
    collection: str = ""

    @classmethod
    def of_plan(cls, commit: int, at_s: float, request: Transaction | Deletes, plan: Plan) -> Intent:
        """Return the intent of a request's plan whose groups have their versions."""
        versions = iter(plan.groups)
        results = tuple(
            {**one, "version": next(versions).version} if one["op"] == "create_entanglement" else one
            for one in plan.results
        )
        key, digest = (request.key, request.digest) if isinstance(request, Transaction) else (None, "")
        return cls(commit, at_s, key, digest, plan.upserts, plan.deletes, plan.groups, results, request.collection)

    def answer(self) -> Json:
        """Return what the caller is told."""
        return {"commit": self.commit, "results": list(self.results)}

    def record(self) -> Json:
        """Return the journal's record."""
        return {
            "t": "intent",
            "commit": self.commit,
            "at_s": self.at_s,
            "key": self.key,
            "digest": self.digest,
            "upserts": [entity_record(entity) for entity in self.upserts],
            "deletes": list(self.deletes),
            "groups": [group_record(group) for group in self.groups],
            "results": list(self.results),
            "collection": self.collection,
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Intent:
        """Return what ``record`` made JSON of."""
        return cls(
            commit=int(record["commit"]),
            at_s=float(record["at_s"]),
            key=record["key"],
            digest=str(record["digest"]),
            upserts=tuple(entity_of(one) for one in record["upserts"]),
            deletes=tuple(record["deletes"]),
            groups=tuple(group_of(one) for one in record["groups"]),
            results=tuple(record["results"]),
            collection=str(record.get("collection", "")),
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer to a transaction that had a key."""

    key: str
    digest: str
    answer: Json
    at_s: float


@dataclass(frozen=True, slots=True)
class KeyRetention:
    """How long answers are kept by key, in seconds, and how many at most."""

    kept_s: float = DAY_S
    answers: int = 10_000


class CommitLedger:
    """The state that the records describe.

    Attributes:
        open: transactions that take place, and are not known to have done so, by number.
        reserved: no number above this one was ever given out.
        number: of the last record that was applied.
        settled: transactions that are applied, by number, until the store is known to have been flushed since.
    """

    def __init__(self, retention: KeyRetention) -> None:
        """Start empty."""
        self.open: dict[int, Intent] = {}
        self.reserved = 0
        self.number = 0
        self.records_since_snapshot = 0
        self.settled: dict[int, Intent] = {}
        self._settled_at: dict[int, int] = {}
        self._settled_ids: Counter[str] = Counter()
        self._aborted: OrderedDict[int, None] = OrderedDict()
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._retention = retention

    def apply(self, number: int, record: Mapping[str, Any]) -> None:
        """Take in the record with this number. Raises CorruptData when it is none of this ledger."""
        try:
            self.number = max(self.number, number)
            getattr(self, _APPLY[record["t"]])(record)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CorruptData(f"record {number} of the commit journal cannot be understood: {error!r}") from error
        self.records_since_snapshot += 1

    def kept(self, key: str, now_s: float) -> Kept | None:
        """Return the answer that was given under a key, if it is not too old."""
        found = self._kept.get(key)
        return found if found is not None and now_s - found.at_s <= self._retention.kept_s else None

    def unflushed(self) -> int:
        """Return how many changes of entities are settled."""
        return self._settled_ids.total()

    def is_unflushed(self, entity_id: str) -> bool:
        """Return whether a settled transaction has changed an entity."""
        return entity_id in self._settled_ids

    def size(self) -> int:
        """Return how many records a snapshot would have, roughly."""
        return 1 + len(self.open) + 2 * len(self.settled) + len(self._kept) + len(self._aborted)

    def snapshot(self, now_s: float) -> Sequence[Json]:
        """Return the records that give this ledger to an empty one. Answers that are too old are dropped."""
        return list(self._snapshot(now_s))

    def _snapshot(self, now_s: float) -> Iterator[Json]:
        yield reserve_record(self.reserved)
        for commit in self._aborted:
            yield abort_record(commit)
        for intent in self.open.values():
            yield intent.record()
        for commit, intent in self.settled.items():
            yield intent.record()
            yield receipt_record(commit)
        for kept in self._kept.values():
            if now_s - kept.at_s <= self._retention.kept_s:
                yield {"t": "kept", "key": kept.key, "digest": kept.digest, "answer": kept.answer, "at_s": kept.at_s}

    def _reserve(self, record: Mapping[str, Any]) -> None:
        self.reserved = max(self.reserved, int(record["through"]))

    def _intent(self, record: Mapping[str, Any]) -> None:
        if int(record["commit"]) not in self._aborted:
            self.open[int(record["commit"])] = Intent.of_record(record)

    def _abort(self, record: Mapping[str, Any]) -> None:
        commit = int(record["commit"])
        self.open.pop(commit, None)
        self._aborted[commit] = None
        while len(self._aborted) > _ABORTED:
            self._aborted.popitem(last=False)

    def _receipt(self, record: Mapping[str, Any]) -> None:
        intent = self.open.pop(int(record["commit"]), None)
        if intent is None:
            return
        if intent.key is not None:
            self._keep(Kept(intent.key, intent.digest, intent.answer(), intent.at_s))
        if record.get("redo", False):  # version 0.1.0 wrote no deletions down that would have to come between
            self.settled[intent.commit] = intent
            self._settled_at[intent.commit] = self.number
            self._settled_ids.update(_ids_of(intent))

    def _flushed(self, record: Mapping[str, Any]) -> None:
        through = int(record["through"])
        for commit in [one for one, number in self._settled_at.items() if number <= through]:
            del self._settled_at[commit]
            self._settled_ids -= Counter(_ids_of(self.settled.pop(commit)))

    def _restore_kept(self, record: Mapping[str, Any]) -> None:
        self._keep(Kept(str(record["key"]), str(record["digest"]), dict(record["answer"]), float(record["at_s"])))

    def _keep(self, kept: Kept) -> None:
        self._kept[kept.key] = kept
        self._kept.move_to_end(kept.key)
        while len(self._kept) > self._retention.answers:
            self._kept.popitem(last=False)


def reserve_record(through: int) -> Json:
    """Return the record that lets the numbers up to ``through`` be given out."""
    return {"t": "reserve", "through": through}


def abort_record(commit: int) -> Json:
    """Return the record after which an intent of this number counts for nothing, whenever it is written."""
    return {"t": "abort", "commit": commit}


def receipt_record(commit: int) -> Json:
    """Return the record that a transaction is applied as a whole, and is kept to be done again until a flush."""
    return {"t": "receipt", "commit": commit, "redo": True}


def flushed_record(through: int) -> Json:
    """Return the record that what was receipted up to this number of the journal is safe in the store."""
    return {"t": "flushed", "through": through}


def _ids_of(intent: Intent) -> list[str]:
    return [*(entity.id for entity in intent.upserts), *intent.deletes]


_APPLY: Final[Mapping[str, str]] = {
    "reserve": "_reserve",
    "intent": "_intent",
    "abort": "_abort",
    "receipt": "_receipt",
    "flushed": "_flushed",
    "kept": "_restore_kept",
}
