"""What happens to writes (events), and what their protocol wants done (commands); see ``protocol``.

``work`` is the protocol's number of one request. It comes back with the event that a command leads to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantum_db.commits.ledger import Intent
from quantum_db.commits.operations import Request
from quantum_db.commits.planning import Needs, Stored
from quantum_db.errors import QuantumDBError
from quantum_db.model import EntanglementGroup, Entity

Json = dict[str, Any]

# --- events


@dataclass(frozen=True, slots=True)
class Asked:
    """A caller wants a request done; ``ticket`` is the caller's."""

    ticket: int
    request: Request


@dataclass(frozen=True, slots=True)
class Gone:
    """A caller waits no longer."""

    ticket: int


@dataclass(frozen=True, slots=True)
class Found:
    """What a ``Read`` gave."""

    work: int
    stored: Stored


@dataclass(frozen=True, slots=True)
class Prepared:
    """The groups are reserved; here they are with their versions."""

    work: int
    groups: tuple[EntanglementGroup, ...]


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record is durable, under this number of the journal."""

    work: int
    number: int


@dataclass(frozen=True, slots=True)
class Done:
    """Another command succeeded. ``result`` is that of a plain write: for ``Erase``, what was there."""

    work: int
    result: Sequence[bool] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """A command failed. Of a ``Record`` and of a write it is not known whether it took place."""

    work: int
    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class Swept:
    """What a ``Sweep`` gave: commits that the registry of groups has reservations or finished marks of."""

    work: int
    commits: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Woken:
    """The time of a ``Wake`` has come."""

    work: int


Event = Asked | Gone | Found | Prepared | Recorded | Done | Failed | Swept | Woken

# --- commands


@dataclass(frozen=True, slots=True)
class Read:
    """Read from the store: ``Found`` or ``Failed``."""

    work: int
    needs: Needs
    collection: str = ""


@dataclass(frozen=True, slots=True)
class Prepare:
    """Check and reserve groups for a commit, durably and idempotently: ``Prepared`` or ``Failed``."""

    work: int
    commit: int
    groups: tuple[EntanglementGroup, ...]
    collection: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """Append to the journal, in the order of the commands: ``Recorded`` or ``Failed``."""

    work: int
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Apply:
    """Change the store, all at once and idempotently: ``Done`` or ``Failed``."""

    work: int
    intent: Intent


@dataclass(frozen=True, slots=True)
class Redo:
    """Change the store where it has lost what these transactions did (``redo``): ``Done`` or ``Failed``."""

    work: int
    intents: tuple[Intent, ...]


@dataclass(frozen=True, slots=True)
class Flush:
    """Make safe against a crash of the machine what the store has been told: ``Done`` or ``Failed``."""

    work: int


@dataclass(frozen=True, slots=True)
class Show:
    """Wait until all who look from now on see what was applied, then tell who caches: ``Done`` or ``Failed``.

    The commit becomes ``visible`` in the end. Idempotent.
    """

    work: int
    intent: Intent


@dataclass(frozen=True, slots=True)
class Finish:
    """Make the reserved groups of a commit real, durably and idempotently: ``Done`` or ``Failed``."""

    work: int
    commit: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Let the registry drop what it knows of a commit: ``Done`` or ``Failed``. Idempotent; unknown commits are fine."""

    work: int
    commit: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """Ask the registry which commits it knows, and tell it the first number of this start: ``Swept`` or ``Failed``."""

    work: int
    first: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write entities that belong to no transaction: ``Done`` or ``Failed``."""

    work: int
    entities: tuple[Entity, ...]
    collection: str = ""


@dataclass(frozen=True, slots=True)
class Erase:
    """Delete entities that belong to no transaction: ``Done`` with what was there, or ``Failed``."""

    work: int
    ids: tuple[str, ...]
    collection: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """Tell the states what happened to the entities of a commit. No event comes back; it may be told twice."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Wake:
    """Send ``Woken`` after a while."""

    work: int
    after_s: float


@dataclass(frozen=True, slots=True)
class Compact:
    """Replace the journal's records up to number ``through``. No event comes back; it may fail."""

    through: int
    records: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Give a caller the answer, or the error."""

    ticket: int
    answer: Json | None
    error: QuantumDBError | None = None


Command = (
    Read
    | Prepare
    | Record
    | Apply
    | Show
    | Redo
    | Flush
    | Finish
    | Forget
    | Sweep
    | Put
    | Erase
    | Note
    | Wake
    | Compact
    | Answer
)
