"""What happens to a paid job (events), and what its protocol wants done (commands); see ``submission``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantum_db.backend_ports import ProviderJob
from quantum_db.errors import QuantumDBError

# --- events


@dataclass(frozen=True, slots=True)
class Recorded:
    """The last ``Record`` is durable."""


@dataclass(frozen=True, slots=True)
class NotRecorded:
    """The last ``Record`` could not be written."""

    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class Submitted:
    """The provider accepted the job."""

    job_id: str


@dataclass(frozen=True, slots=True)
class NotSubmitted:
    """The provider has certainly not accepted it, and may later."""

    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider, or the conversion before it, said no for good."""

    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class Unclear:
    """The provider may have accepted it."""

    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class Found:
    """What a search for the key gave, newest first. ``began_s`` is when it began."""

    jobs: tuple[ProviderJob, ...]
    began_s: float


@dataclass(frozen=True, slots=True)
class Collected:
    """The job's counts and cost, as a JSON record."""

    result: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Lost:
    """The job failed or was canceled at the provider."""

    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class StillRunning:
    """The job had not ended when a wait for it did."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A search, a wait or a cancellation failed; the job is where it was."""

    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class Canceled:
    """Whether the cancellation came in time; if not, the job has ended by itself."""

    in_time: bool


@dataclass(frozen=True, slots=True)
class Woken:
    """The time of the last ``Wake`` has come."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Nobody waits for the result any more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Somebody waits for the result again."""


Event = (
    Recorded
    | NotRecorded
    | Submitted
    | NotSubmitted
    | Refused
    | Unclear
    | Found
    | Collected
    | Lost
    | StillRunning
    | NoAnswer
    | Canceled
    | Woken
    | Unwanted
    | Wanted
)

# --- commands


@dataclass(frozen=True, slots=True)
class Record:
    """Write to the journal; ``Recorded`` when it is durable. ``awaited`` is False where nothing depends on it."""

    fields: Mapping[str, Any]
    awaited: bool = True


@dataclass(frozen=True, slots=True)
class Submit:
    """Submit the job, at most once."""


@dataclass(frozen=True, slots=True)
class Find:
    """Look for the job by its key."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Wait for the job and fetch its result."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel the job at the provider."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Discard:
    """Cancel a job that should not be there; no event comes back."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Send ``Woken`` after a while."""

    after_s: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Let the callers know of a problem; the work goes on."""

    error: QuantumDBError


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give the callers the result or the error, though it could not be written down; the place is kept."""

    result: Mapping[str, Any] | None
    error: QuantumDBError | None = None


@dataclass(frozen=True, slots=True)
class End:
    """Give the callers the result or the error, if they do not have it yet, and free the place."""

    result: Mapping[str, Any] | None
    error: QuantumDBError | None = None


Command = Record | Submit | Find | Collect | Cancel | Discard | Wake | Tell | Deliver | End
