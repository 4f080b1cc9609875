"""One request on its way through the protocol: its phase, and the command that each phase consists of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from quantum_db.commits.ledger import Intent, abort_record, receipt_record
from quantum_db.commits.operations import Deletes, Request, Transaction, Upserts
from quantum_db.commits.planning import Plan, needs
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
    """

    id: int
    request: Request | None
    tickets: list[int] = field(default_factory=list)
    phase: Phase = Phase.WAITING
    commit: int = 0
    plan: Plan | None = None
    intent: Intent | None = None
    failures: int = 0

    @property
    def key(self) -> str | None:
        """The caller's name for a transaction."""
        return self.request.key if isinstance(self.request, Transaction) else None

    def command(self) -> Command:
        """Return what the phase consists of."""
        record = self._record()
        if record is not None:
            return Record(self.id, record)
        match self.phase:
            case Phase.READING:
                assert isinstance(self.request, Transaction)
                command: Command = Read(self.id, needs(self.request))
            case Phase.PREPARING:
                assert self.plan is not None
                command = Prepare(self.id, self.commit, self.plan.groups)
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
            return Put(self.id, tuple(replace(one, version=self.commit) for one in self.request.entities))
        assert isinstance(self.request, Deletes)
        return Erase(self.id, self.request.ids)
