"""What the synthesizer needs of a database engine, as a protocol, and what a statement may cost and gives."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Protocol, runtime_checkable

from quantum_db.errors import InvalidRequest
from sql_synthesizer.engines.deadline import Stopper
from sql_synthesizer.schema import ColumnKind, Schema

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]
Parameter = str | int | float | bool | None | Decimal | dt.date
"""What a placeholder may stand for."""

MAX_TIMEOUT_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one statement may take.

    Attributes:
        max_rows: of the result; more are cut off, and the result says so.
        timeout_s: from the first to the last row, in seconds.
        max_bytes: of the result as JSON, about; the rows that go beyond it are cut off, and the result says so.
        stopper: by which another thread may end the statement before its time; it raises SqlTimeout then.
    """

    max_rows: int = 1_000
    timeout_s: float = 10.0
    max_bytes: int = 16 * 2**20
    stopper: Stopper | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise InvalidRequest.at("max_rows", f"{self.max_rows} is below 1")
        if not 0 < self.timeout_s <= MAX_TIMEOUT_S:
            raise InvalidRequest.at("timeout_s", f"{self.timeout_s} is not within (0, {MAX_TIMEOUT_S:g}] seconds")
        if self.max_bytes < 1:
            raise InvalidRequest.at("max_bytes", f"{self.max_bytes} is below 1")


@dataclass(frozen=True, slots=True)
class Rows:
    """The result of a statement.

    Attributes:
        columns: their names, in order; two may be the same.
        kinds: what each column's values are.
        rows: each with one JSON-ready value a column. Dates and times are ISO 8601 text; decimals that a double does
            not hold exactly, and blobs (in base64), are text too; what is not a finite number is "NaN", "Infinity" or
            "-Infinity".
        truncated: whether there were more rows than the limits allow.
        elapsed_ms: the wall time from sending the statement to the last row, in milliseconds.
    """

    columns: tuple[str, ...]
    kinds: tuple[ColumnKind, ...]
    rows: tuple[tuple[JsonValue, ...], ...]
    truncated: bool
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How an engine would run a statement.

    Attributes:
        text: as the engine writes it.
        cost: in the engine's own unit, None where it tells none.
        rows: that the engine expects, None where it tells none.
    """

    text: str
    cost: float | None = None
    rows: float | None = None


class Engine(Protocol):
    """One database, open for reading. Calls may come from several threads; each is bounded in time.

    An engine is a sandbox: whatever statement it is given, it writes nothing, opens no other file and no connection.
    It knows of nothing that is hidden; the guard does.
    """

    @property
    def dialect(self) -> str:
        """By sqlglot's name: "duckdb", "sqlite" or "postgres"."""

    def schema(self) -> Schema:
        """Return what the database holds, read anew where its data version has changed since the last call."""

    def run(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Rows:
        """Run one statement.

        Args:
            sql: in the engine's dialect, with placeholders ``$1``, ``$2`` (SQLite: ``?1``, ``?2``).
            parameters: what the placeholders stand for.
            limits: None takes those of ``Limits``.
            force_order: join the tables in the written order. SQLite does that where ``CROSS JOIN`` is written.

        Raises:
            SqlInvalid: the engine cannot run it; the message is the engine's.
            SqlRefused: the sandbox does not let it.
            SqlTimeout: it took longer than ``limits.timeout_s``.
            Unavailable: the database does not answer.
        """

    def explain(
        self, sql: str, parameters: Sequence[Parameter] = (), limits: Limits | None = None, *, force_order: bool = False
    ) -> Plan:
        """Return how the engine would run a statement, without running it. Raises as ``run`` does."""

    def data_version(self) -> str:
        """Return a name of what the database holds now: another one after a write. Takes milliseconds."""

    def close(self) -> None:
        """Let go of all connections. Idempotent."""


class Session(Protocol):
    """One connection for several statements, which may keep results for each other."""

    def keep(self, name: str, sql: str, parameters: Sequence[Parameter], timeout_s: float) -> int:
        """Keep the rows of a query under a name, in memory, until the session ends; return how many there are.

        Raises as ``Engine.run`` does, and SqlInvalid where there is no room.
        """

    def run(self, sql: str, parameters: Sequence[Parameter], limits: Limits) -> Rows:
        """Run one statement, which may read what was kept. Raises as ``Engine.run`` does."""


@runtime_checkable
class SharingEngine(Protocol):
    """An engine with sessions."""

    def session(self, timeout_s: float) -> AbstractContextManager[Session]:
        """Open a session that ends after ``timeout_s`` at the latest. Raises Unavailable."""
