"""One request on its way through the protocol: its phase, and the command that each phase consists of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from quantum_db.commits.ledger import Intent, abort_record, receipt_record
from quantum_db.commits.operations import Deletes, Request, Transaction, Upserts
from quantum_db.commits.planning import Needs, Plan, needs
from quantum_db.commits.steps import Apply, Command, Erase, Finish, Forget, Prepare, Put, Read, Record, Show


class Phase(Enum):
    """Where a request stands."""

    WAITING = "waiting"
    READING = "reading"
    PREPARING = "preparing"
    RECORDING = "recording"
    ABORTING = "aborting"
    APPLYING = "applying"
    SHOWING = "showing"
    FINISHING = "finishing"
    RECEIPTING = "receipting"
    FORGETTING = "forgetting"
    WRITING = "writing"


@dataclass(slots=True, eq=False)
class Work:
    """A request, and how far it is.

    Attributes:
        request: None for what is left over from before a restart.
        tickets: of the callers that wait for it.
        commit: its number, once it has one.
        failures: of the present phase's command.
        widened: how often it has claimed more than it asked for itself.
        existed: what was there of ``Deletes`` that are written down.
    """

    id: int
    request: Request | None
    tickets: list[int] = field(default_factory=list)
    phase: Phase = Phase.WAITING
    commit: int = 0
    plan: Plan | None = None
    intent: Intent | None = None
    failures: int = 0
    widened: int = 0
    existed: tuple[bool, ...] = ()

    @property
    def collection(self) -> str:
        """The key of the collection that it is about."""
        if self.request is not None:
            return self.request.collection
        return "" if self.intent is None else self.intent.collection

    @property
    def key(self) -> str | None:
        """The caller's name for a transaction."""
        return self.request.key if isinstance(self.request, Transaction) else None

    def answer(self) -> dict[str, Any]:
        """Return what the callers of a request that is written down are told."""
        assert self.intent is not None
        if isinstance(self.request, Deletes):
            return {"commit": self.commit, "existed": list(self.existed)}
        return self.intent.answer()

    def command(self) -> Command:
        """Return what the phase consists of."""
        record = self._record()
        if record is not None:
            return Record(self.id, record)
        match self.phase:
            case Phase.READING:
                assert isinstance(self.request, Transaction | Deletes)
                wanted = Needs((), self.request.ids) if isinstance(self.request, Deletes) else needs(self.request)
                command: Command = Read(self.id, wanted, self.collection)
            case Phase.PREPARING:
                assert self.plan is not None
                command = Prepare(self.id, self.commit, self.plan.groups, self.collection)
            case Phase.APPLYING:
                assert self.intent is not None
                command = Apply(self.id, self.intent)
            case Phase.SHOWING:
                assert self.intent is not None
                command = Show(self.id, self.intent)
            case Phase.FINISHING:
                command = Finish(self.id, self.commit)
            case Phase.FORGETTING:
                command = Forget(self.id, self.commit)
            case _:
                command = self._plain_write()
        return command

    def _record(self) -> dict[str, Any] | None:
        match self.phase:
            case Phase.RECORDING:
                assert self.intent is not None
                return self.intent.record()
            case Phase.ABORTING:
                return abort_record(self.commit)
            case Phase.RECEIPTING:
                return receipt_record(self.commit)
        return None

    def _plain_write(self) -> Command:
        assert self.phase is Phase.WRITING, f"nothing is to be done while {self.phase.value}"
        if isinstance(self.request, Upserts):
            entities = tuple(replace(one, version=self.commit) for one in self.request.entities)
            return Put(self.id, entities, self.collection)
        assert isinstance(self.request, Deletes)
        return Erase(self.id, self.request.ids, self.collection)
